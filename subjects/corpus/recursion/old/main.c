/* Shows: every activation of a recursion counts. The outer ones go on in the old version
 * while the inner ones are new. */
#include "line_server.h"

static int weigh(int depth) { return depth == 0 ? 0 : 1 + weigh(depth - 1); }

static void tell(int fd) { say_number(fd, "weight", weigh(3)); }

int main(int count, char **arguments)
{
    int listener;
    char line[LONGEST_LINE];

    (void)count;
    listener = listen_on(atoi(arguments[1]));
    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
            tell(fd);
        }
        close(fd);
    }
}
