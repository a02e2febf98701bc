#include <string.h>

#include <criterion/criterion.h>

#include "data/language.h"

static void expect(const char *language, const char *text)
{
    cr_expect_str_eq(bif_language_of(text, strlen(text)), language, "'%s' is %s", text, bif_language_of(text, strlen(text)));
}

Test(language, latin_letters)
{
    expect("en", "What is the color of the circle?");
    expect("en", "a man on a horse");
    expect("de", "Ein Hund und eine Katze auf dem Sofa");
    expect("fr", "un chien dans le jardin avec une balle");
    expect("es", "un perro en la playa con una pelota");
    expect("it", "un cane nella piscina con la palla del bambino");
    expect("pt", "um cachorro na praia com uma bola");
    expect("nl", "een hond op het strand met een bal");
}

/* One word is no evidence: answers of English questions were Portuguese. */
Test(language, too_little_to_tell)
{
    static const char *const texts[] = {"no", "No", "yes", "a", "as", "um", "no no no", "circle", "red circle"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        expect("und-Latn", texts[i]);
    }
    /* Two of thirty words. */
    expect("und-Latn", "kissa istuu the katolla kun aurinko laskee meren taakse ja linnut laulavat of puissa koko illan ajan kunnes "
                       "kuu nousee taivaalle valaisemaan hiljaista kaupunkia jossa kaikki nukkuvat jo");
}

Test(language, other_letters)
{
    expect("ru", "кошка сидит на столе");
    expect("ru", "Собака и кошка в доме");
    expect("ru", "Мы видим дом");
    expect("uk", "кішка сидить на столі");
    expect("und-Cyrl", "куче и котка в къщата"); /* Bulgarian */
    expect("und-Cyrl", "мачка је на столу");     /* Serbian */
    expect("und-Cyrl", "дом");
    expect("hi", "एक कुत्ता घर में है");
    expect("und-Deva", "कुत्रा घरात आहे"); /* Marathi */
    expect("ar", "قطة تجلس على الطاولة");
    expect("und-Arab", "گربه روی میز نشسته است"); /* Persian */
    expect("und-Arab", "ایک بلی میز پر بیٹھی ہے"); /* Urdu */
    expect("ja", "猫がテーブルにいる");
    expect("zh", "猫在桌子上");
    expect("none", "123");
}
