/* Shows: all policies refuse, and nothing would go wrong. A member is renamed: the old
 * frame goes on using a place that lies where it lay. */
#include "line_server.h"

struct place {
    int row, y;
};

static struct place *here;

static void prepare(void)
{
    here = malloc(sizeof *here);
    if (!here)
        exit(5);
    here->row = 1;
    here->y = 2;
}

static void audit(void) { do_nothing(); }

static void report(int fd, const struct place *place)
{
    audit();
    say_number(fd, "column", place->y);
}

static void move(int fd, struct place *place)
{
    place->y++;
    say(fd, "moved");
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
            if (is(line, "MOVE"))
                move(fd, here);
            else
                report(fd, here);
        }
        close(fd);
    }
}
