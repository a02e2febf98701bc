#include "data/language.h"

#include <ctype.h>
#include <string.h>

#include "base/utf8.h"
#include "data/text_measures.h"

/* The commonest words of each language that are short and have a form of their own; a word that several lists hold counts for less. */
static const struct {
    const char *language, *words;
} lists[] = {
    {"en", " the of and to in is on with for at by an from are this that it his her as or near your you my be was not have has its their over "},
    {"de", " der die das und in den von zu mit dem des ein eine einen einem ist im auf f\xc3\xbcr nicht auch als am an bei aus sich wird sind \xc3\xbc" "ber oder "},
    {"fr", " le la les de des du et un une dans est en pour sur avec au aux par que qui ce cette il elle sont pas plus son sa ses \xc3\xa0 "},
    {"es", " el la los las de del y un una en con por para que es su al se como m\xc3\xa1s lo este esta son sobre entre muy sin est\xc3\xa1 "},
    {"it", " il lo la gli le di del della dei delle e un una uno in con per che \xc3\xa8 su da al nel nella sono si non come pi\xc3\xb9 alla "},
    {"pt", " o os as de do da dos das e um uma em no na com por para que \xc3\xa9 se ao mais como seu sua n\xc3\xa3o s\xc3\xa3o pelo pela "},
    {"nl", " de het een van en in op met is voor te aan zijn dat die bij niet door naar uit om ook als er deze wordt over maar "},
    {"sv", " och i en ett att det som p\xc3\xa5 \xc3\xa4r av f\xc3\xb6r med den till inte om har de sin fr\xc3\xa5n vid eller kan "},
    {"pl", " i w na z do si\xc4\x99 nie jest to o od po przez dla za jak ze oraz ale przy czy "},
    {"tr", " ve bir bu da de i\xc3\xa7in ile olan olarak \xc3\xa7ok daha en gibi kadar sonra ne var mi "},
};
#define LISTS ((int)(sizeof lists / sizeof *lists))

static const struct {
    const char script[5], *language;
} scripts[] = {{"Hang", "ko"}, {"Hira", "ja"}, {"Kana", "ja"}, {"Hani", "zh"}, {"Thai", "th"}, {"Grek", "el"}, {"Hebr", "he"}, {"Armn", "hy"},
               {"Geor", "ka"}, {"Taml", "ta"}, {"Telu", "te"}, {"Khmr", "km"}, {"Laoo", "lo"}, {"Mymr", "my"}, {"Sinh", "si"}, {"Ethi", "und-Ethi"},
               {"Arab", "und-Arab"}, {"Deva", "und-Deva"}, {"Beng", "und-Beng"}, {"Cyrl", "und-Cyrl"}, {"Latn", "und-Latn"}};

static const char *of_latin(const char *text, size_t size)
{
    double score[LISTS] = {0};
    int best = -1, tie = 0;
    for (size_t at = 0; at < size;) {
        char word[20] = " ";
        size_t used = 1;
        for (; at < size && (isalpha((unsigned char)text[at]) || (text[at] & 0x80)); at++) {
            if (used + 2 < sizeof word) {
                word[used] = (char)tolower((unsigned char)text[at]);
            }
            used++;
        }
        at += used == 1;
        if (used == 1 || used + 2 > sizeof word) {
            continue;
        }
        word[used] = ' ';
        word[used + 1] = '\0';
        int holders = 0;
        for (int i = 0; i < LISTS; i++) {
            holders += strstr(lists[i].words, word) != NULL;
        }
        for (int i = 0; holders > 0 && i < LISTS; i++) {
            score[i] += strstr(lists[i].words, word) != NULL ? 1.0 / holders : 0.0;
        }
    }
    for (int i = 0; i < LISTS; i++) {
        if (score[i] > 0 && (best < 0 || score[i] > score[best])) {
            best = i;
            tie = 0;
        } else if (best >= 0 && score[i] == score[best]) {
            tie = 1;
        }
    }
    return best < 0 || tie ? "und-Latn" : lists[best].language;
}

static const char *of_cyrillic(const char *text, size_t size)
{
    bool russian = false;
    for (size_t at = 0, step = 0; at < size; at += step == 0 ? 1 : step) {
        uint32_t code = 0;
        step = bif_utf8_decode(text + at, size - at, &code);
        if (code == 0x456 || code == 0x457 || code == 0x454 || code == 0x491) {
            return "uk";
        }
        russian = russian || code == 0x44b || code == 0x44d || code == 0x451; /* letters that Bulgarian and Serbian do not have */
    }
    return russian ? "ru" : "und-Cyrl";
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
