/* Proves: a record in the heap grows and has to move while an old frame holds a pointer to
 * one of its members. No type of that pointer leads to the record: it stays with the old
 * copy, and what is written there is lost. Where the record has room it stays. */
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

static void add(int fd, long *hits)
{
    audit();
    ++*hits;
    say(fd, "hit");
}

static void hit(int fd) { add(fd, &counter->hits); }

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
                hit(fd);
            else
                tell(fd);
        }
        close(fd);
    }
}
