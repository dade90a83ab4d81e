/* Proves: instances of changed records are found at every point and converted, so
 * that new code reads what old code built. A list in the heap, a record in main's
 * frame. With GROWS the list's members need more room; with FRAME_GROWS the record in
 * main's frame does, so that it must move although main goes on with the old place. */
#include "line_server.h"

struct entry {
#ifdef NEW
    struct entry *next;
    int tag;
    int value;
#ifdef GROWS
    long room[6];
#endif
#else
    int value;
    int tag;
    struct entry *next;
#endif
};

struct server {
#ifdef NEW
    struct entry *first;
    int count;
    int calls;
#ifdef FRAME_GROWS
    long more[6];
#endif
#else
    int calls;
    int count;
    struct entry *first;
#endif
};

static void link_entry(struct server *server, struct entry *entry)
{
    entry->next = server->first;
    server->first = entry;
    server->count++;
}

static void add(struct server *server, int fd, const char *text)
{
    struct entry *entry = calloc(1, sizeof *entry);

    entry->value = atoi(text);
    entry->tag = 1000 + entry->value;
    link_entry(server, entry);
    say_number(fd, "added", server->count);
}

static int sum_of(struct entry *entry)
{
    return entry ? entry->value + entry->tag - 1000 + sum_of(entry->next) : 0;
}

static void sum(struct server *server, int fd)
{
    server->calls++;
    say_number(fd, "sum", sum_of(server->first));
    say_number(fd, "calls", server->calls);
}

static void command(struct server *server, int fd, const char *line)
{
    if (is(line, "SUM"))
        sum(server, fd);
    else
        add(server, fd, line);
}

int main(void)
{
    int listener = listen_on(7000);
    struct server server = { 0 };
    char line[80];

    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line))
            command(&server, fd, line);
        close(fd);
    }
}
