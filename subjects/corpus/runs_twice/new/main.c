/* Proves: a duty that moves from the caller to the callee is done twice when the
 * update comes between the two, which only TELL shows. */
#include "line_server.h"

static int total;

static void count(void) { total++; }

static void store(void) { count(); }

static void add(void)
{
    store();
}

static void added(int fd) { say(fd, "added"); }

static void tell(int fd) { say_number(fd, "total", total); }

static int request(int fd, char *line) { return next_line(fd, line, LONGEST_LINE); }

int main(int count, char **arguments)
{
    int listener = listen_on(atoi(arguments[count - 1]));
    char line[LONGEST_LINE];

    for (;;) {
        int fd = next_client(listener);

        while (request(fd, line)) {
            if (is(line, "ADD")) {
                add();
                added(fd);
            } else {
                tell(fd);
            }
        }
        close(fd);
    }
}
