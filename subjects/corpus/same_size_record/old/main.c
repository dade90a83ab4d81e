/* Proves: a record that keeps its size while its members change places is misread by
 * new code, although nothing but offsets differs; a transformer rescues the update. */
#include "line_server.h"

struct counter {
    int hits;
    int misses;
};

static struct counter *counter;

static void start(void) { counter = calloc(1, sizeof *counter); }

static void touch(void) { do_nothing(); }

static void hit(struct counter *of)
{
    touch();
    of->hits++;
}

static void ok(int fd) { say(fd, "ok"); }

static void tell(int fd) { say_number(fd, "hits", counter->hits); }

int main(int count, char **arguments)
{
    int listener = listen_on(atoi(arguments[count - 1]));
    char line[LONGEST_LINE];

    start();
    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
            if (is(line, "HIT")) {
                hit(counter);
                ok(fd);
            } else {
                tell(fd);
            }
        }
        close(fd);
    }
}
