/* Proves: an old frame that calls a function which has gained a parameter passes what
 * happens to be in its register. touch leaves a nine there. */
#include "line_server.h"

static void touch(int fd, int factor)
{
    (void)fd;
    (void)factor;
    do_nothing();
}

static int scale(int value, int factor) { return value * factor; }

static void answer(int fd, int value) { say_number(fd, "scaled", value); }

static void serve(int fd)
{
    int value;

    touch(fd, 9);
    value = scale(7, 1);
    answer(fd, value);
}

int main(int count, char **arguments)
{
    int listener = listen_on(atoi(arguments[count - 1]));
    char line[LONGEST_LINE];

    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
            if (is(line, "SCALE"))
                serve(fd);
        }
        close(fd);
    }
}
