/*
 * vsftpd 3.0.5 to Debian 3.0.5-0.2: since patch 0005 values of options are kept without
 * the blanks around them. Those that this process has read already are trimmed here. A
 * check that has copied an option before keeps its copy, which cannot be named.
 */

#include "kairos_transform.h"

struct setting {
	const char *name;
	char **variable;
};

static int
is_blank(char character)
{
	return character == ' ' || (character >= '\t' && character <= '\r');
}

static void
trim(char **variable)
{
	char *text = *variable;
	unsigned int from = 0, to = 0, i;

	while (text[to] != '\0')
		to++;
	while (to > 0 && is_blank(text[to - 1]))
		to--;
	while (from < to && is_blank(text[from]))
		from++;
	for (i = from; i < to; i++)
		text[i - from] = text[i];
	text[to - from] = '\0';
	if (from == to)
		*variable = 0; /* as str_strdup_trimmed() does */
}

void
kairos_transform(void)
{
	const struct setting *setting = (const struct setting *)kairos_old_parseconf_str_array;

	for (; setting->name != 0; setting++)
		if (*setting->variable != 0)
			trim(setting->variable);
}
