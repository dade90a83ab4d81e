/* What was ANGRY in the old version is UNEASY in the new one. */
extern int mood;

void kairos_transform(void);

void kairos_transform(void)
{
    if (mood == 1)
        mood = 2;
}
