/* Proves: a duty that moves from the callee to the caller, behind the call, is done by
 * nobody when the update comes between the two, which only TELL shows. */
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

int main(int count, char **arguments)
{
    int listener = listen_on(atoi(arguments[count - 1]));
    char line[LONGEST_LINE];

    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
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
