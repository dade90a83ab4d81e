/* Proves: where the meaning of a parameter changes (pounds become pence, at the same
 * type), old callers need the old callee. `show` is called by `pay`, through a table
 * that cannot be written, by `refund`, whose code is the same, and through a pointer
 * that the process holds. `price` is set by the update. Replies are the same in both versions. */
#include "line_server.h"

#ifdef NEW
#define PRICE(pounds) ((pounds) * 100)
static void show(int fd, int pence) { say_number(fd, "paid", pence / 100); }
#else
#define PRICE(pounds) (pounds)
static void show(int fd, int pounds) { say_number(fd, "paid", pounds); }
#endif

int price = PRICE(7);
static void (*const table[])(int, int) = { show };
void (*held)(int, int) = show;

static void note(void) { __asm__ volatile(""); }

static void pay(int fd)
{
    note();
    show(fd, PRICE(5));
}

static void by_table(int fd, int which)
{
    note();
    table[which](fd, PRICE(6));
}

static void refund(int fd)
{
    note();
    show(fd, price);
}

static void by_pointer(int fd)
{
    note();
    held(fd, PRICE(8));
}

int main(void)
{
    int listener = listen_on(7000);
    char line[80];

    for (;;) {
        int fd = accept(listener, NULL, NULL);

        while (next_line(fd, line, sizeof line)) {
            if (is(line, "PAY"))
                pay(fd);
            else if (is(line, "TABLE"))
                by_table(fd, 0);
            else if (is(line, "REFUND"))
                refund(fd);
            else
                by_pointer(fd);
        }
        close(fd);
    }
}
