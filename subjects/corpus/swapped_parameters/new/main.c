/* Proves: two parameters of one type change places. An old frame that goes on to call the
 * function hands over the old order, which no type tells; where the old entry keeps the
 * old version it gets what it means. */
#include "line_server.h"

static void touch(void) { do_nothing(); }

static int difference(int right, int left) { return left - right; }

static void answer(int fd, int value) { say_number(fd, "difference", value); }

static void serve(int fd)
{
    int value;

    touch();
    value = difference(3, 7);
    answer(fd, value);
}

int main(int count, char **arguments)
{
    int listener;
    char line[LONGEST_LINE];

    (void)count;
    listener = listen_on(atoi(arguments[1]));
    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line))
            serve(fd);
        close(fd);
    }
}
