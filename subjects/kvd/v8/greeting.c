#include "greeting.h"

#include <stdio.h>
#include <string.h>

static char greeting_text[64];
static const char *protocol_text; /* within greeting_text */

void make_greeting(void)
{
    snprintf(greeting_text, sizeof greeting_text, "HELLO kvd protocol %d", 2);
    protocol_text = strstr(greeting_text, "protocol");
}

const char *greeting(void)
{
    return greeting_text;
}

const char *protocol_name(void)
{
    return protocol_text;
}
