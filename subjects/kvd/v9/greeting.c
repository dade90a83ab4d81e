#include "greeting.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char greeting_text[64];
static const char *protocol_digits; /* within greeting_text */

void make_greeting(void)
{
    snprintf(greeting_text, sizeof greeting_text, "HELLO kvd protocol %d", 2);
    protocol_digits = strrchr(greeting_text, ' ') + 1;
}

const char *greeting(void)
{
    return greeting_text;
}

int protocol_number(void)
{
    return atoi(protocol_digits);
}
