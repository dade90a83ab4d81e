/* Proves: changed records of other kinds keep their values: one that ends in a flexible
 * array, an array in the heap whose length the manifest names, a pointer into that
 * array, a pointer into a table of constants, and a variable that is local to a
 * function. */
#include "line_server.h"

struct text {
#ifdef NEW
    long stamp;
    int length;
#else
    int length;
#endif
    char bytes[];
};

struct cell {
#ifdef NEW
    long square;
    long value;
#else
    int value;
    int square;
#endif
};

struct kind {
#ifdef NEW
    const char *word;
    long number;
#else
    int number;
    const char *word;
#endif
};

struct choice {
    const struct kind *kind;
};

struct tally {
#ifdef NEW
    long odd;
    int even;
#else
    int even;
    int odd;
#endif
};

static const struct kind kinds[] = { { .number = 1, .word = "one" },
                                     { .number = 2, .word = "two" } };
static struct text *text;
static struct cell *cells;
static struct cell *largest;
static int used;
static struct choice *choice;

static void store(const char *line)
{
    size_t length = strlen(line);

    text = calloc(1, sizeof *text + length + 1);
    text->length = (int)length;
    memcpy(text->bytes, line, length + 1);
}

static void append(int value)
{
    if (!cells)
        cells = calloc(8, sizeof *cells);
    cells[used].value = value;
    cells[used].square = value * value;
    if (!largest || value > largest->value)
        largest = &cells[used];
    used++;
}

static void choose(int number)
{
    if (!choice)
        choice = calloc(1, sizeof *choice);
    choice->kind = &kinds[number & 1];
}

static int tally(int value)
{
    static struct tally tally;

    if (value & 1)
        tally.odd++;
    else
        tally.even++;
    return (int)tally.odd * 100 + tally.even;
}

static void tell(int fd)
{
    int sum = 0;

    for (int i = 0; i < used; i++)
        sum += (int)(cells[i].square == cells[i].value * cells[i].value ? cells[i].value : -1000);
    say_number(fd, "sum", sum);
    say_number(fd, "largest", largest ? (int)largest->value : 0);
    say(fd, text && (int)strlen(text->bytes) == text->length ? text->bytes : "no text");
    say(fd, choice ? choice->kind->word : "no choice");
}

static void command(int fd, const char *line)
{
    int value = atoi(line + 1);

    if (line[0] == '?') {
        tell(fd);
        return;
    }
    if (line[0] == 't')
        store(line + 1);
    else if (line[0] == 'a')
        append(value);
    else
        choose(value);
    say_number(fd, "tally", tally(value));
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
