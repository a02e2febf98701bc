#include "eval/sheet.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/file.h"
#include "base/utf8.h"

#define CELL_UNITS 32767

struct bif_sheet {
    bif_writer *writer;
    const char *path;
    char separator; /* 0: .xlsx */
    bif_text_buffer body; /* .xlsx: the sheet, written at the end, because its length and checksum stand before it */
    int64_t row, column;
};

static bool ends_with(const char *path, const char *end)
{
    const size_t size = strlen(path), length = strlen(end);
    return size > length && strcmp(path + size - length, end) == 0;
}

static void add(bif_text_buffer *b, const char *text)
{
    bif_text_add(b, text, strlen(text));
}

bif_status bif_sheet_open(const char *path, bif_sheet **out)
{
    *out = NULL;
    const int separator = ends_with(path, ".tsv") ? '\t' : ends_with(path, ".csv") ? ',' : ends_with(path, ".xlsx") ? 0 : -1;
    if (separator < 0) {
        return bif_fail(BIF_ERR_USAGE, "%s: a table is written as .xlsx, .tsv or .csv", path);
    }
    bif_sheet *s = bif_calloc(1, sizeof *s);
    *s = (bif_sheet){.path = path, .separator = (char)separator, .row = 1};
    const bif_status st = bif_writer_open(path, &s->writer);
    if (st != BIF_OK) {
        free(s);
        return st;
    }
    if (separator == 0) {
        add(&s->body, "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n"
                      "<worksheet xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\"><sheetData>\n");
    }
    *out = s;
    return BIF_OK;
}

/* A, B, ..., Z, AA, ... */
static char *cell_name(int64_t row, int64_t column)
{
    char letters[16];
    size_t at = sizeof letters - 1;
    letters[at] = '\0';
    for (int64_t n = column + 1; n > 0; n = (n - 1) / 26) {
        letters[--at] = (char)('A' + (n - 1) % 26);
    }
    return bif_format("%s%lld", letters + at, (long long)row);
}

static bif_status xml_cell(bif_sheet *s, bif_span text, bool number)
{
    char *name = cell_name(s->row, s->column);
    int64_t units = 0;
    uint32_t code = 0;
    if (s->column == 0) {
        char *row = bif_format("<row r=\"%lld\">", (long long)s->row);
        add(&s->body, row);
        free(row);
    }
    add(&s->body, "<c r=\"");
    add(&s->body, name);
    add(&s->body, number ? "\"><v>" : "\" t=\"inlineStr\"><is><t xml:space=\"preserve\">");
    for (size_t at = 0, step = 0; at < text.size && (step = bif_utf8_decode(text.text + at, text.size - at, &code)) > 0; at += step) {
        const bool held = code >= 0x20 ? code != 0xfffe && code != 0xffff : code == '\t' || code == '\n';
        units += code >= 0x10000 ? 2 : 1;
        switch (code) {
        case '&': add(&s->body, "&amp;"); break;
        case '<': add(&s->body, "&lt;"); break;
        case '>': add(&s->body, "&gt;"); break;
        case '\r': add(&s->body, "&#13;"); break;
        default: bif_text_add(&s->body, held ? text.text + at : "\xEF\xBF\xBD", held ? step : 3);
        }
    }
    add(&s->body, number ? "</v></c>" : "</t></is></c>");
    const bif_status st = units <= CELL_UNITS
                              ? BIF_OK
                              : bif_fail(BIF_ERR_DATA, "%s: cell %s would have %lld characters, and one of .xlsx holds %d; write .tsv",
                                         s->path, name, (long long)units, CELL_UNITS);
    free(name);
    return st;
}

static bif_status text_cell(bif_sheet *s, bif_span text)
{
    bif_status st = BIF_OK;
    const char marks[] = {s->separator, '"', '\n', '\r'};
    bool quoted = false;
    for (size_t i = 0; i < text.size; i++) {
        quoted = quoted || memchr(marks, text.text[i], sizeof marks) != NULL;
    }
    BIF_TRY(s->column > 0 ? bif_writer_write(s->writer, &s->separator, 1) : BIF_OK);
    BIF_TRY(quoted ? bif_writer_write(s->writer, "\"", 1) : BIF_OK);
    for (size_t from = 0, at = 0; at <= text.size; at++) {
        if (at == text.size || text.text[at] == '"') { /* a quote is written twice */
            const size_t end = at < text.size ? at + 1 : at;
            BIF_TRY(bif_writer_write(s->writer, text.text + from, end - from));
            BIF_TRY(at < text.size ? bif_writer_write(s->writer, "\"", 1) : BIF_OK);
            from = end;
        }
    }
    BIF_TRY(quoted ? bif_writer_write(s->writer, "\"", 1) : BIF_OK);
done:
    return st;
}

bif_status bif_sheet_cell(bif_sheet *sheet, bif_span text, bool number)
{
    text.text = text.text != NULL ? text.text : "";
    const bif_status st = sheet->separator == 0 ? xml_cell(sheet, text, number) : text_cell(sheet, text);
    sheet->column++;
    return st;
}

bif_status bif_sheet_row(bif_sheet *sheet)
{
    sheet->column = 0;
    sheet->row++;
    if (sheet->separator != 0) {
        return bif_writer_write(sheet->writer, "\n", 1);
    }
    add(&sheet->body, "</row>\n");
    return BIF_OK;
}

/* ---- the zip of .xlsx ---- */

static void put_number(bif_text_buffer *b, uint64_t value, int size)
{
    for (int i = 0; i < size; i++) {
        const char byte = (char)(i < 8 ? value >> 8 * i & 0xff : 0);
        bif_text_add(b, &byte, 1);
    }
}

/* One stored file: its header and bytes to `out`, its record to `directory`. */
static void put_entry(bif_text_buffer *out, bif_text_buffer *directory, const char *name, const char *data, size_t size)
{
    const uint64_t begin = out->size, crc = crc32_z(0, (const Bytef *)data, size);
    for (int k = 0; k < 2; k++) { /* the same fields twice */
        bif_text_buffer *b = k == 0 ? out : directory;
        put_number(b, k == 0 ? 0x04034b50 : 0x02014b50, 4);
        put_number(b, 20, k == 0 ? 2 : 4); /* versions */
        put_number(b, 0, 4);               /* flags, method: stored */
        put_number(b, 0x00210000, 4);      /* 1980-01-01, 0:00: the same table, the same bytes */
        put_number(b, crc, 4);
        put_number(b, size, 4);
        put_number(b, size, 4);
        put_number(b, strlen(name), 2);
        put_number(b, 0, 2);
        if (k == 1) {
            put_number(b, 0, 10);
            put_number(b, begin, 4);
        }
        add(b, name);
    }
    bif_text_add(out, data, size);
}

static bif_status write_zip(bif_sheet *s)
{
    static const char *const parts[][2] = {
        {"[Content_Types].xml",
         "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n<Types "
         "xmlns=\"http://schemas.openxmlformats.org/package/2006/content-types\">"
         "<Default Extension=\"rels\" ContentType=\"application/vnd.openxmlformats-package.relationships+xml\"/><Default Extension=\"xml\" "
         "ContentType=\"application/xml\"/><Override PartName=\"/xl/workbook.xml\" "
         "ContentType=\"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml\"/><Override "
         "PartName=\"/xl/worksheets/sheet1.xml\" "
         "ContentType=\"application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml\"/></Types>"},
        {"_rels/.rels", "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n<Relationships "
                        "xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\"><Relationship Id=\"rId1\" "
                        "Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument\" "
                        "Target=\"xl/workbook.xml\"/></Relationships>"},
        {"xl/workbook.xml",
         "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n<workbook "
         "xmlns=\"http://schemas.openxmlformats.org/spreadsheetml/2006/main\" "
         "xmlns:r=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships\"><sheets><sheet name=\"Sheet1\" sheetId=\"1\" "
         "r:id=\"rId1\"/></sheets></workbook>"},
        {"xl/_rels/workbook.xml.rels", "<?xml version=\"1.0\" encoding=\"UTF-8\" standalone=\"yes\"?>\n<Relationships "
                                       "xmlns=\"http://schemas.openxmlformats.org/package/2006/relationships\"><Relationship Id=\"rId1\" "
                                       "Type=\"http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet\" "
                                       "Target=\"worksheets/sheet1.xml\"/></Relationships>"},
    };
    enum { PARTS = sizeof parts / sizeof *parts };
    bif_status st = BIF_OK;
    bif_text_buffer out = {0}, directory = {0};
    add(&s->body, "</sheetData></worksheet>\n");
    if (s->body.size >= (size_t)1 << 31) {
        return bif_fail(BIF_ERR_DATA, "%s: %zu bytes are too many for .xlsx; write .tsv", s->path, s->body.size);
    }
    for (int i = 0; i < PARTS; i++) {
        put_entry(&out, &directory, parts[i][0], parts[i][1], strlen(parts[i][1]));
    }
    put_entry(&out, &directory, "xl/worksheets/sheet1.xml", s->body.text, s->body.size);
    const uint64_t at = out.size;
    bif_text_add(&out, directory.text, directory.size);
    put_number(&out, 0x06054b50, 4);
    put_number(&out, 0, 4);
    put_number(&out, PARTS + 1, 2);
    put_number(&out, PARTS + 1, 2);
    put_number(&out, directory.size, 4);
    put_number(&out, at, 4);
    put_number(&out, 0, 2);
    st = bif_writer_write(s->writer, out.text, out.size);
    bif_text_free(&out);
    bif_text_free(&directory);
    return st;
}

bif_status bif_sheet_commit(bif_sheet *sheet)
{
    bif_status st = BIF_OK;
    BIF_TRY(sheet->separator == 0 ? write_zip(sheet) : BIF_OK);
    bif_writer *writer = sheet->writer;
    sheet->writer = NULL;
    st = bif_writer_commit(writer);
done:
    bif_sheet_abandon(sheet);
    return st;
}

void bif_sheet_abandon(bif_sheet *sheet)
{
    if (sheet != NULL) {
        bif_writer_abandon(sheet->writer);
        bif_text_free(&sheet->body);
        free(sheet);
    }
}
