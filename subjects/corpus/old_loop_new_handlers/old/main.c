/* Shows: an old loop that never returns calls new handlers. Each reply has a beginning
 * from the loop and an end from the handler, and stays of two versions for ever. */
#include "line_server.h"

static void answer(int fd) { say(fd, "body"); }

static void serve(int listener)
{
    char line[LONGEST_LINE];

    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
            say(fd, "head");
            answer(fd);
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
