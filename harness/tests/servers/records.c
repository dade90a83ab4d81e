/* Proves: what a common layout does with records of every kind, by their names: some
 * share one layout, some only get room, some stay as they are. Both versions answer
 * with the same sum over initialised instances, so that a member at a wrong place, or an
 * initialiser that went astray, shows. */
#include <stddef.h>
#include <stdint.h>

#include "line_server.h"

/* Bit-fields around one that goes; a typedef names it. */
typedef struct {
    unsigned first : 3;
#ifndef NEW
    unsigned gone : 9;
#endif
    unsigned last : 4;
    uint8_t byte;
} bits;

/* Grows, and is held below: by value, in arrays, in nameless records. */
struct inner {
#ifdef NEW
    void *added;
#endif
    short a;
    char text[6];
};

struct outer {
    char mark;
    struct inner one, many[2];
    union {
        struct inner other;
        long number;
    };
    struct {
        int in, out;
    } pair;
#ifdef NEW
    int (*call)(int);
    long mark_of_new;
#endif
    enum { RED, GREEN } color;
};

/* Only its elements change. */
struct tail {
    int count;
    struct inner *next;
    struct inner rest[];
};

/* Gains a member before an open array: nothing can lie behind that. */
struct open {
#ifdef NEW
    int more;
#endif
    int count;
    char rest[];
};

union either {
    int number;
#ifdef NEW
    char text[24];
#else
    char text[10];
#endif
};

struct __attribute__((packed)) wire {
    char kind;
#ifdef NEW
    short extra;
#endif
    int length;
};

/* Its initialiser leaves out braces: positions cannot be told. */
struct elided {
#ifdef NEW
    int added;
#endif
    int a;
    struct {
        int p, q;
    } in;
};

/* The pair's manifest says that this goes to a file. */
struct stored {
#ifdef NEW
    int version;
#endif
    int value;
};

struct open *open_record;
bits flags = { 1,
#ifndef NEW
    300,
#endif
    9, 77 };
struct outer outer = { 'm',
#ifdef NEW
    { NULL, 1, "one" }, { { NULL, 2, "two" }, { .a = 3, .text = "three" } },
#else
    { 1, "one" }, { { 2, "two" }, { .a = 3, .text = "three" } },
#endif
    .number = 4, .pair = { 5, 6 }, .color = GREEN };
union either either = { 7 };
struct wire wire = { .kind = 'w', .length = 8 };
#ifdef NEW
struct elided elided = { 0, 9, 10, 11 };
struct stored stored = { 1, 12 };
#else
struct elided elided = { 9, 10, 11 };
struct stored stored = { 12 };
#endif

static int sum(struct tail *tail)
{
    const struct inner *p = &(const struct inner){ .a = 100, .text = "x" };

    return flags.first + flags.last + flags.byte + outer.one.a + outer.many[0].a
        + outer.many[1].a + outer.many[1].text[0] + (int)outer.number + outer.pair.in
        + outer.pair.out + outer.color + either.number + wire.length + elided.a + elided.in.p
        + elided.in.q + stored.value + p->a + tail->count + (open_record ? open_record->count : 0);
}

int main(void)
{
    int listener = listen_on(7000);
    char line[80];
    struct tail tail = { 13, NULL };

    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line))
            say_number(fd, "sum", sum(&tail));
        close(fd);
    }
}
