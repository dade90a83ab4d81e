/* Shows: con-freeness by members is sound only where objects stay where they lie. The
 * record grows by a member that the old frame does not know; left in place it holds, moved
 * by a transformer it loses what the old frame writes. */
#include "line_server.h"

struct counter {
    long hits;
    long told;
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

static void tell(int fd)
{
    counter->told++;
    say_number(fd, "hits", counter->hits);
}

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
