/* Shows: a loop that never returns goes on in its old version: the update is taken and
 * has no effect. Developers except such a function by name. */
#include "line_server.h"

static void echo(int fd, const char *line) { say(fd, line); }

static void serve(int listener)
{
    char line[LONGEST_LINE];

    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
            echo(fd, line);
            say(fd, "end");
        }
        close(fd);
    }
}

int main(int count, char **arguments)
{
    (void)count;
    serve(listen_on(atoi(arguments[1])));
    return 0;
}
