/* Proves: a member that is added gets the new program's initial value, and no mechanism
 * runs what start-up makes of it; a transformer does. */
#include "line_server.h"

struct limits {
    long lines;
    long words;
};

static struct limits limits;

static void start(void)
{
    limits.lines = 40;
    limits.words = 10 * limits.lines;
}

static void tell(int fd)
{
    say_number(fd, "most", limits.words);
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
