/* Proves: a table filled at start-up still refers to a function that the new version
 * lacks; its old code then calls one that has gained a parameter. touch leaves a nine
 * in the register of that parameter. */
#include "line_server.h"

static void (*handler)(int fd);

static void touch(int fd, int factor)
{
    (void)fd;
    (void)factor;
    do_nothing();
}

static int scale(int value) { return value; }

static void answer(int fd, int value) { say_number(fd, "scaled", value); }

static void scaled(int fd)
{
    int value;

    touch(fd, 9);
    value = scale(7);
    answer(fd, value);
}

static void start(void) { handler = scaled; }

static void pong(int fd) { say(fd, "pong"); }

int main(int count, char **arguments)
{
    int listener = listen_on(atoi(arguments[count - 1]));
    char line[LONGEST_LINE];

    start();
    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
            if (is(line, "RUN"))
                handler(fd);
            else
                pong(fd);
        }
        close(fd);
    }
}
