/* Proves: a program that reads a record by another one that lies alike dies where only
 * one of them is laid out anew. `item` gets a member in front, which a common layout puts
 * behind the others; `view`, which only the new version has, stays as it is written.
 * Replies are the same in both versions. */
#include "line_server.h"

struct item {
#ifdef NEW
    long weight;
#endif
    long kind;
    const char *text;
};

#ifdef NEW
struct view {
    long weight;
    long kind;
    const char *text;
};
#endif

static struct item *make(void)
{
    struct item *item = calloc(1, sizeof *item);

    item->kind = 1;
    item->text = "made";
    return item;
}

static void show(int fd, struct item *item)
{
#ifdef NEW
    struct view *view = (struct view *)item;

    say(fd, view->text);
#else
    say(fd, item->text);
#endif
    free(item);
}

int main(void)
{
    int listener = listen_on(7000);
    char line[80];

    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line))
            show(fd, make());
        close(fd);
    }
}
