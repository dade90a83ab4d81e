#include "number.h"

#include <limits.h>

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

int parse_number(const char *text, long long *number)
{
    int negative = *text == '-';
    long long value = 0;

    text += negative;
    if (!is_digit(*text))
        return -1;
    for (; is_digit(*text); text++) {
        if (value > (LLONG_MAX - 9) / 10)
            return -1;
        value = value * 10 + (*text - '0');
    }
    if (*text)
        return -1;
    *number = negative ? -value : value;
    return 0;
}
