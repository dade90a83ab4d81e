/* Proves: new code that is called from an old frame reads a record which that frame
 * laid out the old way. */
#include "line_server.h"

struct operands {
    int left;
    int right;
    int unused;
};

static void check(void) { do_nothing(); }

static int difference(const struct operands *of) { return of->left - of->right; }

static void answer(int fd, int value) { say_number(fd, "difference", value); }

static void subtract(int fd)
{
    struct operands operands = { .left = 7, .right = 3 };

    check();
    answer(fd, difference(&operands));
}

static void pong(int fd) { say(fd, "pong"); }

int main(int count, char **arguments)
{
    int listener = listen_on(atoi(arguments[count - 1]));
    char line[LONGEST_LINE];

    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
            if (is(line, "SUB"))
                subtract(fd);
            else
                pong(fd);
        }
        close(fd);
    }
}
