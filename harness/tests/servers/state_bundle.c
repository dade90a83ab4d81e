/* Proves: elements of a flexible array that pointers lead to belong to the record that
 * ends in it, and a block of a thread's own arena is known by its headers: what grows
 * in it stays where it is, since there is room. */
#include "line_server.h"

#include <pthread.h>

struct slot {
#ifdef NEW
    long twice;
#endif
    long value;
    struct slot *next;
};

struct bundle {
    long used;
    struct slot slots[];
};

static struct bundle *bundle;
static struct slot *last;

static void add(int value)
{
    struct slot *slot;

    if (!bundle)
        bundle = calloc(1, 512);
    slot = &bundle->slots[bundle->used++];
    slot->value = value;
#ifdef NEW
    slot->twice = 2 * value;
#endif
    slot->next = last;
    last = slot;
}

static int sum(void)
{
    int total = 0;

    for (struct slot *slot = last; slot; slot = slot->next)
        total += (int)slot->value;
    return total;
}

static void command(int fd, const char *line)
{
    add(atoi(line));
    say_number(fd, VERSION_TEXT("old", "new"), sum());
}

static void *serve(void *listener)
{
    char line[80];

    for (;;) {
        int fd = accept(*(int *)listener, NULL, NULL);

        while (next_line(fd, line, sizeof line))
            command(fd, line);
        close(fd);
    }
}

int main(void)
{
    int listener = listen_on(7000);
    pthread_t thread;

    pthread_create(&thread, NULL, serve, &listener);
    pthread_join(thread, NULL);
    return 0;
}
