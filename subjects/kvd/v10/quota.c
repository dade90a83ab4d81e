#include "quota.h"

#include <stdio.h>

static int quota_keys;
static const char *quota_origin;

void quota_start(int keys, const char *origin)
{
    quota_keys = keys;
    quota_origin = origin;
}

int quota_allows(int keys)
{
    return keys < quota_keys;
}

void quota_describe(char *text, int size)
{
    snprintf(text, (size_t)size, "quota %d from %s", quota_keys, quota_origin);
}
