#include "kairos_transform.h"

void quota_start(int keys, const char *origin);

/* The quota that start-up code would have set. */
void kairos_transform(void)
{
    quota_start(64, "update");
}
