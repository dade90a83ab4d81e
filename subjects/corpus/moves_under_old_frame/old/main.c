/* Proves: a record in the heap grows and has to move while an old frame is about to write
 * it. The pointer in the frame goes along, and nothing is lost. */
#include "line_server.h"

struct counter {
    long hits;
};

static struct counter *counter;

static void prepare(void)
{
    counter = calloc(1, sizeof *counter);
    if (!counter)
        exit(5);
}

static void audit(void) { do_nothing(); }

static void hit(int fd, struct counter *place)
{
    audit();
    place->hits++;
    say(fd, "hit");
}

static void tell(int fd) { say_number(fd, "hits", counter->hits); }

int main(int count, char **arguments)
{
    int listener;
    char line[LONGEST_LINE];

    (void)count;
    prepare();
    listener = listen_on(atoi(arguments[1]));
    for (;;) {
        int fd = next_client(listener);

        while (next_line(fd, line, sizeof line)) {
            if (is(line, "HIT"))
                hit(fd, counter);
            else
                tell(fd);
        }
        close(fd);
    }
}
