/* Prints the most frequent words of standard input, most frequent first. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct word {
    char *text;
    unsigned long count;
    struct word *next;
};

enum { BUCKETS = 1 << 14, LONGEST = 256 };
static struct word *table[BUCKETS];
static size_t distinct;

static unsigned long hash(const char *s)
{
    unsigned long h = 5381;
    while (*s)
        h = h * 33 + (unsigned char)*s++;
    return h % BUCKETS;
}

static void add(const char *text)
{
    struct word **slot = &table[hash(text)], *w;
    for (w = *slot; w; w = w->next)
        if (strcmp(w->text, text) == 0) {
            w->count++;
            return;
        }
    w = malloc(sizeof *w);
    if (!w || !(w->text = strdup(text))) {
        fputs("wordfreq: out of memory\n", stderr);
        exit(1);
    }
    w->count = 1;
    w->next = *slot;
    *slot = w;
    distinct++;
}

static int by_count(const void *a, const void *b)
{
    const struct word *x = *(struct word *const *)a, *y = *(struct word *const *)b;
    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    return strcmp(x->text, y->text);
}

int main(int argc, char **argv)
{
    char *end = NULL;
    unsigned long limit = argc > 1 ? strtoul(argv[1], &end, 10) : 10;
    if (argc > 2 || (end && *end)) {
        fputs("usage: wordfreq [COUNT] < text\n", stderr);
        return 2;
    }
    char word[LONGEST];
    size_t len = 0;
    int c;
    do {
        c = getchar();
        if (c != EOF && isalnum(c)) {
            if (len < sizeof word - 1)
                word[len++] = (char)tolower(c);
        } else if (len) {
            word[len] = 0;
            add(word);
            len = 0;
        }
    } while (c != EOF);

    struct word **all = malloc((distinct + 1) * sizeof *all);
    if (!all)
        return 1;
    size_t n = 0;
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct word *w = table[i]; w; w = w->next)
            all[n++] = w;
    qsort(all, n, sizeof *all, by_count);
    for (size_t i = 0; i < n && i < limit; i++)
        printf("%lu %s\n", all[i]->count, all[i]->text);
    return ferror(stdin) || fflush(stdout) ? 1 : 0;
}
