/* Proves: an old frame that waits while a transformer converts a record goes on with
 * the old layout; once it has used the record for the last time it does no harm. */
#include "line_server.h"

struct counter {
    int hits;
    int misses;
};

static struct counter *counter;

/* Both versions' records fit. */
static void start(void) { counter = calloc(1, 64); }

static void touch(void) { do_nothing(); }

static void done(void) { do_nothing(); }

static void hit(struct counter *of)
{
    touch();
    of->hits++;
    done();
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
