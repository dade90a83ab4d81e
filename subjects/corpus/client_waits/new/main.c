/* Proves: a reply that moves from the callee to the caller is given by nobody when the
 * update comes between the two: the client waits for ever. */
#include "line_server.h"

static void reply(int fd) { say(fd, "done"); }

static void work(int fd)
{
    (void)fd;
    do_nothing();
}

static void request(int fd)
{
    work(fd);
    reply(fd);
}

int main(int count, char **arguments)
{
    int listener = listen_on(atoi(arguments[count - 1]));
    char line[LONGEST_LINE];

    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
            if (is(line, "DO"))
                request(fd);
        }
        close(fd);
    }
}
