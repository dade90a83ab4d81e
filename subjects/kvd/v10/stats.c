#include "stats.h"

static unsigned long counters[STAT_END];

void stats_count(enum stat stat)
{
    counters[stat]++;
}

unsigned long stats_value(enum stat stat)
{
    return counters[stat];
}

const char *stats_name(enum stat stat)
{
    static const char *const names[STAT_END] = { "requests", "errors", "writes", "hits", "misses" };

    return names[stat];
}
