/* Shows: a server runs another program through the library, which borrows the server's
 * memory for the child until that has executed (vfork). The points behind it in the same
 * exchange are reached like any other, and the other program is nobody's to update. */
#include "line_server.h"

static void before(void) { do_nothing(); }

static void tell(int fd, int status) { say_number(fd, "exit status", WEXITSTATUS(status)); }

static void run(int fd, const char *command)
{
    int status;

    before();
    status = system(command);
    tell(fd, status);
}

static void tally(int fd)
{
    static int runs;

    say_number(fd, "counted", ++runs);
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
            char *command = argument(line, "RUN");

            if (command)
                run(fd, command);
            else
                tally(fd);
        }
        close(fd);
    }
}
