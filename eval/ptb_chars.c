#include "eval/ptb_chars.h"

#include <utf8proc.h>

typedef struct {
    uint16_t first, last;
} range;

/* Measured: every character of the plane put between letters, digits and brackets. */
static const range marks[] = {
    {0xad, 0xad},     {0x2c2, 0x2c5},   {0x2d2, 0x2df},   {0x2e5, 0x2eb},   {0x2ed, 0x2ed},   {0x2ef, 0x36f},   {0x375, 0x375},
    {0x378, 0x379},   {0x384, 0x385},   {0x3f6, 0x3f6},   {0x483, 0x487},   {0x55a, 0x55f},   {0x591, 0x5bd},   {0x5bf, 0x5bf},
    {0x5c1, 0x5c2},   {0x5c4, 0x5c5},   {0x5c7, 0x5c7},   {0x615, 0x61a},   {0x64b, 0x65e},   {0x670, 0x670},   {0x6d6, 0x6e4},
    {0x6e7, 0x6ed},   {0x6fd, 0x6fe},   {0x70f, 0x70f},   {0x711, 0x711},   {0x730, 0x74c},   {0x7a6, 0x7b0},   {0x7eb, 0x7f3},
    {0x900, 0x903},   {0x93c, 0x93c},   {0x93e, 0x94e},   {0x951, 0x955},   {0x962, 0x963},   {0x981, 0x983},   {0x9bc, 0x9bc},
    {0x9be, 0x9c4},   {0x9c7, 0x9c8},   {0x9cb, 0x9cd},   {0x9d7, 0x9d7},   {0x9e2, 0x9e3},   {0xa01, 0xa03},   {0xa3c, 0xa3c},
    {0xa3e, 0xa4f},   {0xa81, 0xa83},   {0xabc, 0xabc},   {0xabe, 0xacf},   {0xb82, 0xb82},   {0xbbe, 0xbc2},   {0xbc6, 0xbc8},
    {0xbca, 0xbcd},   {0xc01, 0xc03},   {0xc3e, 0xc56},   {0xd3e, 0xd44},   {0xd46, 0xd48},   {0xe31, 0xe31},   {0xe34, 0xe3a},
    {0xe47, 0xe4e},   {0xeb1, 0xeb1},   {0xeb4, 0xebc},   {0xec8, 0xecd},
};
static const range symbols[] = {
    {0xa1, 0xa1},     {0xa5, 0xa9},     {0xac, 0xac},     {0xae, 0xb1},     {0xb4, 0xb4},     {0xb6, 0xb8},     {0xbf, 0xbf},
    {0xd7, 0xd7},     {0xf7, 0xf7},     {0x37e, 0x37e},   {0x387, 0x387},   {0x589, 0x589},   {0x5be, 0x5be},   {0x5c0, 0x5c0},
    {0x5c3, 0x5c3},   {0x5c6, 0x5c6},   {0x5f3, 0x5f4},   {0x600, 0x603},   {0x606, 0x60c},   {0x614, 0x614},   {0x61b, 0x61b},
    {0x61e, 0x61f},   {0x66a, 0x66a},   {0x66d, 0x66d},   {0x6d4, 0x6d4},   {0x700, 0x70d},   {0x7f6, 0x7f8},   {0x964, 0x965},
    {0xe3f, 0xe3f},   {0xe4f, 0xe4f},   {0x1fbd, 0x1fbd}, {0x2016, 0x2017}, {0x2020, 0x2023}, {0x2030, 0x2038}, {0x203b, 0x203b},
    {0x203e, 0x2042}, {0x2044, 0x2044}, {0x207a, 0x207e}, {0x208a, 0x208e}, {0x20a4, 0x20a4}, {0x2100, 0x2101}, {0x2103, 0x2106},
    {0x2108, 0x2109}, {0x2114, 0x2114}, {0x2116, 0x2118}, {0x211e, 0x2123}, {0x2125, 0x2125}, {0x2127, 0x2127}, {0x2129, 0x2129},
    {0x212e, 0x212e}, {0x213a, 0x213b}, {0x2140, 0x2144}, {0x214a, 0x214d}, {0x214f, 0x214f}, {0x2155, 0x215e}, {0x2190, 0x2bff},
    {0x3001, 0x3002}, {0x3012, 0x3012}, {0x30fb, 0x30fb}, {0xff01, 0xff0f}, {0xff1a, 0xff20}, {0xff3b, 0xff40}, {0xff5b, 0xff65},
    {0xffe0, 0xffe1}, {0xffe5, 0xffe6},
};

static bool among(const range *ranges, size_t count, uint32_t c)
{
    size_t low = 0, high = count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (c > ranges[middle].last) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < count && c >= ranges[low].first;
}

static bool is_pair(uint32_t c)
{
    return c >= 0xd800 && c <= 0xdfff;
}

bool bif_ptb_letter(uint32_t c)
{
    if (c < 0x80) {
        return (c | 32) >= 'a' && (c | 32) <= 'z';
    }
    if (c >= BIF_PTB_END || is_pair(c)) {
        return false;
    }
    const utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO) || c == 0x1885 || c == 0x1886; /* letters until Unicode 9 */
}

bool bif_ptb_digit(uint32_t c)
{
    if (c < 0x80) {
        return c >= '0' && c <= '9';
    }
    return c < BIF_PTB_END && !is_pair(c) && utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_ND;
}

bool bif_ptb_mark(uint32_t c)
{
    return c >= 0x80 && among(marks, sizeof marks / sizeof *marks, c);
}

bool bif_ptb_symbol(uint32_t c)
{
    return c >= 0x80 && among(symbols, sizeof symbols / sizeof *symbols, c);
}

bool bif_ptb_space(uint32_t c)
{
    return c == ' ' || c == '\t' || c == 0xa0 || (c >= 0x2000 && c <= 0x200a) || c == 0x3000;
}

bool bif_ptb_newline(uint32_t c)
{
    return (c >= '\n' && c <= '\r') || c == 0x85 || c == 0x2028 || c == 0x2029;
}

const char *const bif_ptb_abbreviations[] = {
    "Jan", "Feb", "Mar", "Apr", "Jun", "Jul", "Aug", "Sep", "Sept", "Oct", "Nov", "Dec", "Mon", "Tue", "Tues", "Wed", "Thu", "Thurs",
    "Fri", "Ala", "Ariz", "^Az", "^Ark", "Calif", "Colo", "Conn", "Ct", "Dak", "^Del", "Fla", "Ga", "^Ill", "Ind", "Kan", "Kans", "Ky",
    "^La", "^Mass", "Md", "Mich", "Minn", "^Miss", "Mo", "Mont", "Neb", "Nev", "Okla", "^Ore", "^Pa", "Penn", "Tenn", "^Tex", "Va",
    "Vt", "^Wash", "Wis", "Wisc", "Wyo", "Inc", "Co", "Cos", "Corp", "Pt^y", "Pt^ys", "Ppt^y", "Ppt^ys", "Pt^e", "Pt^es", "Ltd", "Plc",
    "Rt", "Bancorp", "Bhd", "Assn", "Univ", "Intl", "Sys", "tel", "est", "ext", "sq", "Jr", "Bros", "Ed.D", "Ph.D", "Esq", "etc", "al",
    "seq", "Bldg", "Sr", "Blvd", "Rd", NULL,
};
const char *const bif_ptb_titles[] = {
    "Mr", "Mrs", "Ms", "^Miss", "Dr", "Drs", "Prof", "Profs", "Sen", "Sens", "Rep", "Reps", "Atty", "Attys", "Lt", "Col", "Gen",
    "Messrs", "Gov", "Govs", "Adm", "Rev", "Maj", "Sgt", "Cpl", "Pvt", "Capt", "St", "Ste", "Ave", "Pres", "Lieut", "Hon", "Brig",
    "Cmdr", "Comdr", "Pfc", "Spc", "Supt", "Supts", "Det", "Mt", "Ft", "Adj", "Adv", "Asst", "Assoc", "Ens", "Insp", "Mlle", "Mme",
    "Msgr", "Sfc", "vs", "Alex", "Wm", "Jos", "Cie", "a.k.a", "cf", "TREAS", "Ph", "Invt", "Elec", "Natl", "M^fg", "M^tg", "Dept",
    NULL,
};
const char *const bif_ptb_number_abbreviations[] = {
    "ca", "fig", "figs", "prop", "no", "nos", "art", "bldg", "pp", "op", NULL,
};
const char *const bif_ptb_openers[] = {
    "About", "According", "Additionally", "After", "An", "A", "As", "At", "But", "Did", "During", "Earlier", "He", "Her", "Here",
    "How", "However", "If", "In", "It", "Last", "Many", "More", "Mr.", "Ms.", "Now", "Once", "One", "Other", "Our", "She", "Since",
    "So", "Some", "Such", "That", "The", "Their", "Then", "There", "These", "They", "This", "We", "When", "While", "What", "Who",
    "Why", "Yet", "You", NULL,
};
const char *const bif_ptb_extensions[] = {
    "bat", "bmp", "c", "class", "cgi", "cpp", "dll", "doc", "docx", "exe", "gif", "gz", "h", "htm", "html", "jar", "java", "jpeg",
    "jpg", "mov", "mp3", "pdf", "php", "pl", "png", "ppt", "ps", "py", "sql", "tar", "txt", "wav", "x", "xml", "zip", NULL,
};
