#include "greeting.h"

#include <stdio.h>

static char greeting_text[64];

void make_greeting(void)
{
    snprintf(greeting_text, sizeof greeting_text, "HELLO kvd protocol %d", 1);
}

const char *greeting(void)
{
    return greeting_text;
}
