#include "eval/chair_words.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

/* ---- synonyms ---- */

bif_status bif_synonyms_read(bif_synonyms *y, const char *where, bif_span text)
{
    const char *at = text.text, *end = text.text + text.size;
    for (int64_t line = 1; at < end; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop != NULL ? stop : end;
        bif_span rest = bif_text_strip((bif_span){at, (size_t)(stop - at)});
        at = stop + 1;
        if (rest.size == 0 && at >= end) {
            break;
        }
        if (rest.size == 0 || y->count == BIF_CHAIR_OBJECTS) {
            return bif_fail(BIF_ERR_DATA, "%s:%lld: %s", where, (long long)line,
                            rest.size == 0 ? "an empty line" : "more than 128 objects");
        }
        if (bif_utf8_check(rest.text, rest.size) < rest.size) {
            return bif_fail(BIF_ERR_DATA, "%s:%lld: not UTF-8", where, (long long)line);
        }
        for (bool first = true; rest.text != NULL; first = false) {
            bif_span word = rest;
            const char *comma = memmem(rest.text, rest.size, ", ", 2);
            if (comma != NULL) {
                word.size = (size_t)(comma - rest.text);
                rest = (bif_span){comma + 2, rest.size - word.size - 2};
            } else {
                rest.text = NULL;
            }
            const size_t number = (size_t)bif_intern_find(&y->words, word.text, word.size, true, NULL);
            if (number >= y->capacity) {
                y->capacity = 2 * number + 64;
                y->object = bif_realloc(y->object, y->capacity, 1);
            }
            y->object[number] = (uint8_t)y->count;
            y->name[y->count] = first ? word : y->name[y->count];
        }
        y->count++;
    }
    return y->count > 0 ? BIF_OK : bif_fail(BIF_ERR_DATA, "%s: no synonyms in it", where);
}

void bif_synonyms_free(bif_synonyms *y)
{
    bif_intern_free(&y->words);
    free(y->object);
    *y = (bif_synonyms){0};
}

int bif_synonyms_find(const bif_synonyms *y, bif_span word)
{
    const int64_t number = bif_intern_get(&y->words, word.text, word.size);
    return number < 0 ? -1 : y->object[number];
}

/* ---- singular ---- */

static bool ends_with(bif_span word, const char *ending)
{
    const size_t n = strlen(ending);
    return word.size >= n && memcmp(word.text + word.size - n, ending, n) == 0;
}

/* An ending, what must stand before it, how many of its letters stay and what follows these. before: "" anything, "!" nothing, "." a
 * character, "^..." none of these, else one of these. The first that fits is taken. */
typedef struct {
    const char *before, *ending;
    size_t keep;
    const char *with;
} rule;

static const rule rules[] = {
    {".", "ae", 1, ""}, {".", "itis", 4, ""}, {".", "eaux", 3, ""}, {"", "quizzes", 4, ""}, {"", "matrices", 5, "x"},
    {"", "apices", 2, "ex"}, {"", "vertices", 4, "ex"}, {"", "indices", 3, "ex"}, {"", "aliases", 5, ""}, {"", "statuses", 6, ""},
    {"octop|vir", "i", 0, "us"}, {"", "crises", 4, "is"}, {"", "axes", 2, "is"}, {"", "testes", 4, "is"}, {"", "shoes", 4, ""},
    {"", "oes", 1, ""}, {"", "buses", 3, ""}, {"m|l", "ice", 0, "ouse"}, {"", "xes", 1, ""}, {"", "ches", 2, ""}, {"", "sses", 2, ""},
    {"", "shes", 2, ""}, {"", "movies", 5, ""}, {".", "ombies", 5, ""}, {"", "series", 6, ""}, {"^aeiouy", "ies", 0, "y"},
    {"", "quies", 2, "y"}, {"aeo", "lves", 1, "f"}, {"^d", "eaves", 2, "f"}, {"", "arves", 2, "f"}, {"", "erves", 4, ""},
    {"nlw", "ives", 1, "fe"}, {"lr", "ves", 0, "f"}, {"aeo", "ves", 2, ""}, {"", "sives", 4, ""}, {"", "tives", 4, ""},
    {"", "hives", 4, ""}, {"^f", "ves", 0, "fe"}, {"!", "analyses", 6, "is"}, {"", "analyses", 5, "asis"}, {"", "bases", 2, "sis"},
    {"", "diagnoses", 6, "sis"}, {"", "parentheses", 8, "sis"}, {"", "prognoses", 6, "sis"}, {"", "synopses", 5, "sis"},
    {"", "theses", 3, "sis"}, {".", "opses", 3, "is"}, {".", "yses", 2, "is"}, {"hdronbp", "oses", 3, ""}, {"", "closes", 5, ""},
    {".", "oses", 2, "is"}, {"ti", "a", 0, "um"}, {"", "news", 4, ""}, {"", "s", 0, ""},
};

/* Endings that are kept, others that lose their s, and whole endings with another. */
static const char *const kept[] = {
    "bison", "bream", "breeches", "britches", "carp", "chassis", "christmas", "clippers", "cod", "contretemps", "corps", "debris",
    "diabetes", "djinn", "eland", "elk", "flounder", "gallows", "georgia", "graffiti", "headquarters", "herpes", "high-jinks",
    "homework", "innings", "jackanapes", "mackerel", "measles", "mews", "mumps", "news", "pincers", "pliers", "proceedings", "rabies",
    "salmon", "scissors", "series", "shears", "species", "swine", "swiss", "trout", "tuna", "whiting", "wildebeest", "advice", "bread",
    "butter", "cheese", "electricity", "equipment", "fruit", "furniture", "garbage", "gravel", "happiness", "information", "ketchup",
    "knowledge", "love", "luggage", "mathematics", "mayonnaise", "meat", "mustard", "progress", "research", "rice", "sand", "software",
    "understanding", "water",
};
static const char *const ending_ie[] = {
    "alergie", "auntie", "beanie", "birdie", "bogie", "bombie", "collie", "cookie", "cutie", "doggie", "eyrie", "freebie", "goonie",
    "groupie", "hankie", "hippie", "hoagie", "hottie", "indie", "junkie", "laddie", "laramie", "lingerie", "meanie", "newbie",
    "nightie", "oldie", "pixie", "quickie", "reverie", "rookie", "softie", "sortie", "stoolie", "sweetie", "techie", "toughie",
    "valkyrie", "veggie", "weenie", "yuppie", "zombie",
};
static const char *const irregular[][2] = {
    {"atlantes", "atlas"}, {"atlases", "atlas"}, {"axes", "axe"}, {"beeves", "beef"}, {"brethren", "brother"}, {"children", "child"},
    {"corpora", "corpus"}, {"corpuses", "corpus"}, {"ephemerides", "ephemeris"}, {"feet", "foot"}, {"ganglia", "ganglion"},
    {"geese", "goose"}, {"genera", "genus"}, {"genii", "genie"}, {"graffiti", "graffito"}, {"helves", "helve"}, {"kine", "cow"},
    {"leaves", "leaf"}, {"loaves", "loaf"}, {"men", "man"}, {"mongooses", "mongoose"}, {"monies", "money"}, {"moves", "move"},
    {"mythoi", "mythos"}, {"numena", "numen"}, {"occipita", "occiput"}, {"octopodes", "octopus"}, {"opera", "opus"}, {"opuses", "opus"},
    {"our", "my"}, {"oxen", "ox"}, {"penes", "penis"}, {"penises", "penis"}, {"people", "person"}, {"sexes", "sex"},
    {"soliloquies", "soliloquy"}, {"teeth", "tooth"}, {"testes", "testis"}, {"trilbys", "trilby"}, {"turves", "turf"}, {"zoa", "zoon"},
};
/* Between hyphens they make a compound: mothers-in-law. */
static const char *const prepositions[] = {
    "about", "above", "across", "after", "among", "around", "at", "athwart", "before", "behind", "below", "beneath", "beside",
    "besides", "between", "betwixt", "beyond", "but", "by", "during", "except", "for", "from", "in", "into", "near", "of", "off", "on",
    "onto", "out", "over", "since", "till", "to", "under", "until", "unto", "upon", "with",
};
#define COUNT(array) (sizeof(array) / sizeof *(array))

static void add(bif_text_buffer *out, bif_span text)
{
    bif_text_add(out, text.text, text.size);
}

static bool fits(const rule *r, bif_span word)
{
    if (!ends_with(word, r->ending)) {
        return false;
    }
    const size_t left = word.size - strlen(r->ending);
    const char before = left > 0 ? word.text[left - 1] : '\0';
    switch (*r->before) {
    case '\0': return true;
    case '!': return left == 0;
    case '.': return left > 0;
    case '^': return left > 0 && strchr(r->before + 1, before) == NULL;
    default: return left > 0 && before != '\0' && strchr(r->before, before) != NULL;
    }
}

static void singular_part(bif_span word, bif_text_buffer *out)
{
    for (size_t i = 0; i < COUNT(kept); i++) { /* a listed word that ends with this one, whatever it begins with */
        const size_t n = strlen(kept[i]);
        if (word.size <= n && memcmp(kept[i] + n - word.size, word.text, word.size) == 0) {
            add(out, word);
            return;
        }
    }
    for (size_t i = 0; i < COUNT(ending_ie); i++) {
        if (word.size > 0 && word.text[word.size - 1] == 's' && ends_with((bif_span){word.text, word.size - 1}, ending_ie[i])) {
            add(out, word); /* with its s: that is what comes of it */
            return;
        }
    }
    for (size_t i = 0; i < COUNT(irregular); i++) {
        if (ends_with(word, irregular[i][0])) {
            bif_text_add(out, word.text, word.size - strlen(irregular[i][0]));
            bif_text_add(out, irregular[i][1], strlen(irregular[i][1]));
            return;
        }
    }
    if (word.size > 4 && memcmp(word.text, "oxen", 4) == 0) {
        bif_text_add(out, "ox", 2);
        bif_text_add(out, word.text + 4, word.size - 4);
        return;
    }
    for (size_t i = 0; i < COUNT(rules); i++) {
        if (fits(&rules[i], word)) {
            bif_text_add(out, word.text, word.size - strlen(rules[i].ending) + rules[i].keep);
            bif_text_add(out, rules[i].with, strlen(rules[i].with));
            return;
        }
    }
    add(out, word);
}

void bif_singular(bif_span word, bif_text_buffer *out)
{
    const char *hyphen = word.size > 0 ? memchr(word.text, '-', word.size) : NULL;
    if (hyphen != NULL) {
        const char *second = hyphen + 1, *end = word.text + word.size, *stop = memchr(second, '-', (size_t)(end - second));
        const bif_span middle = {second, (size_t)((stop != NULL ? stop : end) - second)};
        for (size_t i = 0; i < COUNT(prepositions); i++) {
            if (bif_span_is(middle, prepositions[i])) {
                bif_singular((bif_span){word.text, (size_t)(hyphen - word.text)}, out);
                bif_text_add(out, hyphen, (size_t)(end - hyphen));
                return;
            }
        }
    }
    if (word.size > 0 && word.text[word.size - 1] == '\'') {
        bif_singular((bif_span){word.text, word.size - 1}, out);
        bif_text_add(out, "'s", 2);
        return;
    }
    singular_part(word, out);
}

/* ---- mentions ---- */

/* Pairs that are one word. NULL: the pair itself, else what it is taken for. */
static const char *const pairs[][3] = {
    {"air", "plane", NULL}, {"baseball", "bat", NULL}, {"baseball", "glove", NULL}, {"bow", "tie", "tie"}, {"cell", "phone", NULL},
    {"fire", "hydrant", NULL}, {"hair", "drier", NULL}, {"home", "plate", NULL}, {"hot", "dog", NULL}, {"laptop", "computer", NULL},
    {"mobile", "phone", NULL}, {"motor", "bike", NULL}, {"motor", "cycle", NULL}, {"parking", "meter", NULL}, {"passenger", "jet", "jet"},
    {"passenger", "train", "train"}, {"potted", "plant", NULL}, {"sports", "ball", NULL}, {"stop", "light", NULL}, {"stop", "sign", NULL},
    {"street", "light", NULL}, {"suit", "case", NULL}, {"teddy", "bear", NULL}, {"tennis", "racket", NULL}, {"toilet", "seat", "toilet"},
    {"traffic", "light", NULL}, {"traffic", "signal", NULL}, {"train", "track", NULL}, {"wine", "glas", "wine glass"},
    {"wine", "glass", NULL},
};
/* Behind "baby" and "adult": the animal alone. */
static const char *const animals[] = {
    "animal", "bear", "bird", "cat", "cow", "cub", "dog", "elephant", "giraffe", "horse", "sheep", "zebra",
};

/* What two words are taken for; false: they are two. */
static bool joined(bif_span a, bif_span b, bif_span *out)
{
    for (size_t i = 0; i < COUNT(pairs); i++) {
        if (bif_span_is(a, pairs[i][0]) && bif_span_is(b, pairs[i][1])) {
            const bif_span both = {a.text, a.size + 1 + b.size}; /* one space stands between them */
            *out = pairs[i][2] != NULL ? (bif_span){pairs[i][2], strlen(pairs[i][2])} : both;
            return true;
        }
    }
    for (size_t i = 0; i < COUNT(animals) && (bif_span_is(a, "baby") || bif_span_is(a, "adult")); i++) {
        if (bif_span_is(b, animals[i])) {
            *out = b;
            return true;
        }
    }
    return false;
}

/* The next word of a text of words parted by single spaces. */
static bool next_word(bif_span *rest, bif_span *word)
{
    if (rest->size == 0) {
        return false;
    }
    const char *space = memchr(rest->text, ' ', rest->size);
    *word = (bif_span){rest->text, space != NULL ? (size_t)(space - rest->text) : rest->size};
    const size_t step = word->size + (space != NULL);
    *rest = (bif_span){rest->text + step, rest->size - step};
    return true;
}

void bif_mentions_find(bif_mentions *m, const bif_synonyms *synonyms, bif_span caption)
{
    bif_span rest, word, next;
    m->count = 0;
    bif_text_clear(&m->lower);
    bif_text_clear(&m->tokens);
    bif_text_clear(&m->words);
    bif_text_lower(caption, &m->lower);
    bif_chair_tokenize(bif_text_span(&m->lower), &m->tokens);
    rest = bif_text_span(&m->tokens);
    while (next_word(&rest, &word)) {
        if (m->words.size > 0) {
            bif_text_add(&m->words, " ", 1);
        }
        bif_singular(word, &m->words);
    }
    bool toilet = false, seat = false;
    for (int pass = 0; pass < 2; pass++) { /* first: is there a toilet, then no seat is a chair */
        rest = bif_text_span(&m->words);
        while (next_word(&rest, &word)) {
            bif_span ahead = rest;
            if (next_word(&ahead, &next) && joined(word, next, &word)) {
                rest = ahead;
            }
            const bool is_seat = bif_span_is(word, "seat");
            toilet = toilet || bif_span_is(word, "toilet");
            seat = seat || is_seat;
            const int object = pass == 0 || (toilet && seat && is_seat) ? -1 : bif_synonyms_find(synonyms, word);
            if (object < 0) {
                continue;
            }
            if (m->count == m->capacity) {
                m->capacity = 2 * m->capacity + 32;
                m->objects = bif_realloc(m->objects, m->capacity, 1);
            }
            m->objects[m->count++] = (uint8_t)object;
        }
    }
}

void bif_mentions_free(bif_mentions *m)
{
    bif_text_free(&m->lower);
    bif_text_free(&m->tokens);
    bif_text_free(&m->words);
    free(m->objects);
    *m = (bif_mentions){0};
}
