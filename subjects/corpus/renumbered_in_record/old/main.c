/* Proves: how a record is laid out helps with its places, not with what its numbers mean.
 * A number behind a macro is renumbered, and the stored one is misread under every
 * mechanism. */
#include "line_server.h"

#define OPEN 1
#define SHUT 2

struct door {
    long state;
};

static struct door door = { .state = OPEN };

static void shut(int fd)
{
    door.state = SHUT;
    say(fd, "done");
}

static void tell(int fd)
{
    if (door.state == SHUT)
        say(fd, "shut");
    else
        say(fd, "open");
}

int main(int count, char **arguments)
{
    int listener;
    char line[LONGEST_LINE];

    (void)count;
    listener = listen_on(atoi(arguments[1]));
    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
            if (is(line, "SHUT"))
                shut(fd);
            else
                tell(fd);
        }
        close(fd);
    }
}
