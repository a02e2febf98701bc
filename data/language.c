#include "data/language.h"

#include <ctype.h>
#include <string.h>

#include "base/utf8.h"
#include "data/text_measures.h"

/* The commonest words of each language that are short and have a form of their own; a word that several lists hold counts for less. */
static const struct {
    const char *language, *words;
} lists[] = {
    {"en", " a no the of and to in is on with for at by an from are this that it his her as or near your you my be was not have has its their over "},
    {"de", " der die das und in den von zu mit dem des ein eine einen einem ist im auf f\xc3\xbcr nicht auch als am an bei aus sich wird sind \xc3\xbc" "ber oder "},
    {"fr", " a le la les de des du et un une dans est en pour sur avec au aux par que qui ce cette il elle sont pas plus son sa ses \xc3\xa0 "},
    {"es", " a no el la los las de del y un una en con por para que es su al se como m\xc3\xa1s lo este esta son sobre entre muy sin est\xc3\xa1 "},
    {"it", " a no il lo la gli le di del della dei delle e un una uno in con per che \xc3\xa8 su da al nel nella sono si non come pi\xc3\xb9 alla "},
    {"pt", " a o os as de do da dos das e um uma em no na com por para que \xc3\xa9 se ao mais como seu sua n\xc3\xa3o s\xc3\xa3o pelo pela "},
    {"nl", " de het een van en in op met is voor te aan zijn dat die bij niet door naar uit om ook als er deze wordt over maar "},
    {"sv", " och i en ett att det som p\xc3\xa5 \xc3\xa4r av f\xc3\xb6r med den till inte om har de sin fr\xc3\xa5n vid eller kan "},
    {"pl", " i w na z do si\xc4\x99 nie jest to o od po przez dla za jak ze oraz ale przy czy "},
    {"tr", " ve bir bu da de i\xc3\xa7in ile olan olarak \xc3\xa7ok daha en gibi kadar sonra ne var mi "},
};
#define WORD 20 /* bytes of " word " and its end */
#define LISTS ((int)(sizeof lists / sizeof *lists))

static const struct {
    const char script[5], *language;
} scripts[] = {{"Hang", "ko"}, {"Hira", "ja"}, {"Kana", "ja"}, {"Hani", "zh"}, {"Thai", "th"}, {"Grek", "el"}, {"Hebr", "he"}, {"Armn", "hy"},
               {"Geor", "ka"}, {"Taml", "ta"}, {"Telu", "te"}, {"Khmr", "km"}, {"Laoo", "lo"}, {"Mymr", "my"}, {"Sinh", "si"}, {"Ethi", "und-Ethi"},
               {"Beng", "und-Beng"}};

/* The next run of letters from *at, as " word " in small ASCII letters; false where it is too long for any list. *at is behind it. */
static bool next_word(const char *text, size_t size, size_t *at, char word[WORD])
{
    size_t used = 1;
    word[0] = ' ';
    for (; *at < size && (isalpha((unsigned char)text[*at]) || (text[*at] & 0x80)); ++*at) {
        if (used + 2 < WORD) {
            word[used] = (char)tolower((unsigned char)text[*at]);
        }
        used++;
    }
    if (used + 2 > WORD) {
        return false;
    }
    word[used] = ' ';
    word[used + 1] = '\0';
    return true;
}

/* The best list needs two different words, and a tenth of all. */
static const char *of_latin(const char *text, size_t size)
{
    double score[LISTS] = {0};
    char first[LISTS][WORD] = {{0}}; /* word that was found */
    bool two[LISTS] = {false};       /* different ones */
    int64_t words = 0, hits[LISTS] = {0};
    int best = -1;
    bool tie = false;
    for (size_t at = 0; at < size;) {
        char word[WORD];
        const size_t begin = at;
        const bool fits = next_word(text, size, &at, word);
        if (at == begin) {
            at++;
            continue;
        }
        words++;
        int holders = 0;
        for (int i = 0; fits && i < LISTS; i++) {
            holders += strstr(lists[i].words, word) != NULL;
        }
        for (int i = 0; holders > 0 && i < LISTS; i++) {
            if (strstr(lists[i].words, word) != NULL) {
                score[i] += 1.0 / holders;
                hits[i]++;
                two[i] = two[i] || (first[i][0] != '\0' && strcmp(first[i], word) != 0);
                memcpy(first[i], first[i][0] == '\0' ? word : first[i], WORD);
            }
        }
    }
    for (int i = 0; i < LISTS; i++) {
        if (score[i] > 0 && (best < 0 || score[i] > score[best])) {
            best = i;
            tie = false;
        } else if (best >= 0 && score[i] == score[best]) {
            tie = true;
        }
    }
    return best < 0 || tie || !two[best] || hits[best] * 10 < words ? "und-Latn" : lists[best].language;
}

static bool holds(const uint32_t *letters, uint32_t code)
{
    for (; *letters != 0 && *letters != code; letters++) {
    }
    return *letters != 0;
}

/* Russian by letters that its neighbours do not have, or by its small words where no letter or word is a neighbour's. */
static const char *of_cyrillic(const char *text, size_t size)
{
    static const uint32_t ukrainian[] = {0x456, 0x457, 0x454, 0x491, 0}, russian[] = {0x44b, 0x44d, 0x451, 0},
                          others[] = {0x44a, 0x458, 0x459, 0x45a, 0x452, 0x45b, 0x45f, 0x453, 0x45c, 0x455, 0}; /* Bulgarian, Serbian, Macedonian */
    static const char ours[] = " \u0438 \u0432 \u043d\u0435 \u043d\u0430 \u0441 \u0447\u0442\u043e \u043a\u0430\u043a \u0438\u0437 \u0443 ",
                      theirs[] = " \u0435 \u0441\u0435 \u0441\u0430 \u0441\u0443 \u0435\u0434\u043d\u043e \u0435\u0434\u0438\u043d \u0435\u0434\u043d\u0430 ";
    bool letter = false, word = false, other = false;
    char run[WORD] = " ";
    size_t used = 1;
    for (size_t at = 0, step = 0; at <= size; at += step == 0 ? 1 : step) {
        uint32_t code = 0;
        step = at < size ? bif_utf8_decode(text + at, size - at, &code) : 0;
        code = code >= 0x410 && code <= 0x42f ? code + 0x20 : code >= 0x400 && code <= 0x40f ? code + 0x50 : code; /* small */
        if (holds(ukrainian, code)) {
            return "uk";
        }
        letter = letter || holds(russian, code);
        other = other || holds(others, code);
        if (code >= 0x400 && code < 0x530) {
            used += used + 6 < WORD ? bif_utf8_encode(code, run + used) : 0;
            continue;
        }
        run[used] = ' ';
        run[used + 1] = '\0';
        word = word || (used > 1 && strstr(ours, run) != NULL);
        other = other || (used > 1 && strstr(theirs, run) != NULL);
        used = 1;
    }
    return letter || (word && !other) ? "ru" : "und-Cyrl";
}

/* Arabic has none of the letters that Persian, Urdu, Kurdish and others added. */
static const char *of_arabic(const char *text, size_t size)
{
    for (size_t at = 0, step = 0; at < size; at += step == 0 ? 1 : step) {
        uint32_t code = 0;
        step = bif_utf8_decode(text + at, size - at, &code);
        if (code >= 0x671 && code <= 0x6d5) {
            return "und-Arab";
        }
    }
    return "ar";
}

/* Small words of Hindi that Marathi and Nepali write in another way. */
static const char *of_devanagari(const char *text, size_t size)
{
    static const char *const words[] = {"\u0939\u0948", "\u092e\u0947\u0902", " \u0915\u0940 "};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (memmem(text, size, words[i], strlen(words[i])) != NULL) {
            return "hi";
        }
    }
    return "und-Deva";
}

const char *bif_language_of(const char *text, size_t size)
{
    const bif_text_measures measures = bif_text_measure(text, size);
    if (measures.script < 0) {
        return "none";
    }
    const char *code = bif_script_codes[measures.script];
    if (strcmp(code, "Latn") == 0) {
        return of_latin(text, size);
    }
    if (strcmp(code, "Cyrl") == 0) {
        return of_cyrillic(text, size);
    }
    if (strcmp(code, "Arab") == 0) {
        return of_arabic(text, size);
    }
    if (strcmp(code, "Deva") == 0) {
        return of_devanagari(text, size);
    }
    if (strcmp(code, "Hani") == 0) {
        bool set[BIF_SCRIPT_COUNT] = {false};
        return bif_script_set("Hira,Kana", set) == BIF_OK && bif_text_script_share(text, size, set) > 0 ? "ja" : "zh";
    }
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        if (strcmp(code, scripts[i].script) == 0) {
            return scripts[i].language;
        }
    }
    return "und-Zzzz";
}
