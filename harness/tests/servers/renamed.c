/* Proves: a member that carries on under another name keeps its value if a person says so:
 * converted where each version has its own layout, left where it lies where both have one. */
#include <stdlib.h>

#include "line_server.h"

struct place {
#ifdef NEW
    int column;
    int row;
#else
    int row;
    int y;
#endif
};

#ifdef NEW
#define COLUMN column
#else
#define COLUMN y
#endif

static struct place *here;

static void touch(void) { __asm__ volatile("" ::: "memory"); }

static void move(struct place *place) { place->COLUMN++; }

static void report(int fd, struct place *place)
{
    touch();
    say_number(fd, "at", place->row * 100 + place->COLUMN);
}

int main(void)
{
    int listener = listen_on(7000);
    char line[80];

    here = calloc(1, sizeof *here);
    here->row = 1;
    here->COLUMN = 5;
    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line)) {
            move(here);
            report(fd, here);
        }
        close(fd);
    }
}
