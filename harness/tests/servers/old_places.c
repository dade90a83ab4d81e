/* Proves: code that touches what an update left in a frame or among the variables is
 * caught, and nobody else is. `totals` grows and the members of `marks` change places:
 * both move, and their old copies stay. The order in serve's frame grows and leaves an old
 * copy there, which serve uses until it has told of it and not afterwards. The slip beside
 * it is converted where it lies. */
#include "line_server.h"

struct totals {
#ifdef NEW
    long started;
#endif
    long lines;
    long orders;
};

struct marks {
#ifdef NEW
    long last;
    long first;
#else
    long first;
    long last;
#endif
};

struct order {
#ifdef NEW
    long shelf;
#endif
    long number;
    long weight;
};

struct slip {
#ifdef NEW
    long kind;
    long size;
#else
    long size;
    long kind;
#endif
};

static struct totals totals = { .lines = 0 };
static struct marks marks = { .first = 0 };

static int is_order(const char *line)
{
    return line[0] == 'o';
}

/* Goes on with both globals after the call. */
static void note(const char *line)
{
    int order = is_order(line);

    totals.lines++;
    totals.orders += order;
    if (order && !marks.first)
        marks.first = totals.lines;
    if (order)
        marks.last = totals.lines;
}

static void weigh(struct order *order, const char *line)
{
    order->number = atoi(line + 1);
    order->weight = 2 * order->number;
}

static void wrap(struct slip *slip, const char *line)
{
    slip->size = (long)strlen(line);
    slip->kind = line[0];
}

static void polite(int fd)
{
    say(fd, "thanks");
}

/* Its records are not used any more when its last call begins. */
static void serve(int fd, const char *line)
{
    struct order order;
    struct slip slip;

    wrap(&slip, line);
    weigh(&order, line);
    say_number(fd, "weight", (int)(order.weight + slip.size));
    polite(fd);
}

static void tell(int fd)
{
    say_number(fd, "lines", (int)totals.lines);
    say_number(fd, "last", (int)marks.last);
}

static void command(int fd, const char *line)
{
    note(line);
    if (is_order(line))
        serve(fd, line);
    else
        tell(fd);
}

int main(void)
{
    int listener = listen_on(7000);
    char line[80];

    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line))
            command(fd, line);
        close(fd);
    }
}
