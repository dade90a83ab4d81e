/* Proves: a loop that never returns goes on in its old version, so that an update of
 * nothing else is inert. `echo` does not change. */
#include "line_server.h"

static void echo(int fd, const char *line) { say(fd, line); }

static void serve(int listener)
{
    char line[80];

    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line)) {
            echo(fd, line);
            say(fd, VERSION_TEXT("old end", "new end"));
        }
        close(fd);
    }
}

int main(void)
{
    serve(listen_on(7000));
    return 0;
}
