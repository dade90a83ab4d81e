/* Proves: a member that is added gets the new program's initial value, and no mechanism
 * runs what start-up makes of it; a transformer does. */
#include "line_server.h"

struct limits {
    long lines;
};

static struct limits limits;

static void start(void) { limits.lines = 40; }

static void tell(int fd)
{
    say_number(fd, "most", 10 * limits.lines);
}

int main(int count, char **arguments)
{
    int listener;
    char line[LONGEST_LINE];

    (void)count;
    start();
    listener = listen_on(atoi(arguments[1]));
    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line))
            tell(fd);
        close(fd);
    }
}
