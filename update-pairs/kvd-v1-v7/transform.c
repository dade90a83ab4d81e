#include "kairos_transform.h"

struct entry;
struct entry *unlink_all(void);
void link_all(struct entry *chain);
void make_greeting(void);
void quota_start(int keys, const char *origin);

/* What the steps in between need, together. */
void kairos_transform(void)
{
    quota_start(64, "update");
    make_greeting();
    link_all(unlink_all());
}
