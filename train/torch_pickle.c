/* The harmless part of pickle: a stack machine that makes dictionaries, tuples, numbers, texts and tensors, and calls nothing. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "train/torch_zip.h"

#define PICKLE_CAP ((size_t)16 << 20) /* some 100,000 tensors */
#define DEPTH_CAP ((size_t)1 << 20)

typedef enum { V_MARK, V_NONE, V_NUMBER, V_TEXT, V_LIST, V_DICT, V_GLOBAL, V_STORAGE, V_TENSOR } value_kind;

typedef enum { G_ORDERED_DICT, G_REBUILD_TENSOR, G_REBUILD_PARAMETER, G_STORAGE_TYPE } global_kind;

typedef struct value value;
struct value {
    value_kind kind;
    global_kind global;
    bif_dtype dtype;        /* STORAGE_TYPE, STORAGE, TENSOR */
    int64_t number;         /* NUMBER; elements of a STORAGE */
    const char *text;       /* TEXT: in the mapping, not ended */
    size_t length;
    value **items;          /* LIST (tuples too); DICT: key, value, key, value */
    size_t count, capacity;
    int rank;               /* TENSOR */
    int64_t dim[BIF_MAX_RANK];
    const unsigned char *data; /* STORAGE, TENSOR */
    size_t at;                 /* where in data.pkl the opcode stands that made it */
    value *next;            /* of all values, to free them */
};

typedef struct {
    const bif_zip *zip;
    const unsigned char *code;
    size_t size, at, opcode; /* opcode: where the present one stands */
    value **stack, **memo;
    size_t depth, stack_room, memo_count, memo_room;
    value *all;
} machine;

static const struct {
    const char *name; /* "module name" */
    global_kind kind;
    bif_dtype dtype;
} globals[] = {
    {"collections OrderedDict", G_ORDERED_DICT, BIF_DTYPE_U8},
    {"torch._utils _rebuild_tensor_v2", G_REBUILD_TENSOR, BIF_DTYPE_U8},
    {"torch._utils _rebuild_parameter", G_REBUILD_PARAMETER, BIF_DTYPE_U8},
    {"torch FloatStorage", G_STORAGE_TYPE, BIF_DTYPE_F32},
    {"torch HalfStorage", G_STORAGE_TYPE, BIF_DTYPE_F16},
    {"torch BFloat16Storage", G_STORAGE_TYPE, BIF_DTYPE_BF16},
    {"torch LongStorage", G_STORAGE_TYPE, BIF_DTYPE_I64},
    {"torch IntStorage", G_STORAGE_TYPE, BIF_DTYPE_I32},
    {"torch ByteStorage", G_STORAGE_TYPE, BIF_DTYPE_U8},
};

static bif_status refuse(const machine *m, const char *what)
{
    return bif_fail(BIF_ERR_DATA, "%s: byte %zu (data.pkl + %zu), opcode 0x%02x: %s", m->zip->path,
                    (size_t)(m->code - m->zip->map) + m->opcode, m->opcode, m->code[m->opcode], what);
}

static value *make(machine *m, value_kind kind)
{
    value *v = bif_calloc(1, sizeof(*v));
    v->kind = kind;
    v->at = m->opcode;
    v->next = m->all;
    m->all = v;
    return v;
}

static bif_status push(machine *m, value *v)
{
    if (m->depth == DEPTH_CAP) {
        return refuse(m, "the stack is too deep");
    }
    if (m->depth == m->stack_room) {
        m->stack_room = m->stack_room == 0 ? 64 : 2 * m->stack_room;
        m->stack = bif_realloc(m->stack, m->stack_room, sizeof(*m->stack));
    }
    m->stack[m->depth++] = v;
    return BIF_OK;
}

static void append(value *list, value *item)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 8 : 2 * list->capacity;
        list->items = bif_realloc(list->items, list->capacity, sizeof(*list->items));
    }
    list->items[list->count++] = item;
}

/* The topmost value, which must not be a mark. */
static bif_status pop(machine *m, value **out)
{
    if (m->depth == 0 || m->stack[m->depth - 1]->kind == V_MARK) {
        return refuse(m, "nothing on the stack");
    }
    *out = m->stack[--m->depth];
    return BIF_OK;
}

/* Moves what lies above the last mark into a list and removes the mark. */
static bif_status pop_to_mark(machine *m, value *list)
{
    size_t mark = m->depth;
    while (mark > 0 && m->stack[mark - 1]->kind != V_MARK) {
        mark--;
    }
    if (mark == 0) {
        return refuse(m, "no mark on the stack");
    }
    for (size_t i = mark; i < m->depth; i++) {
        append(list, m->stack[i]);
    }
    m->depth = mark - 1;
    return BIF_OK;
}

static bif_status take(machine *m, size_t bytes, const unsigned char **out)
{
    if (bytes > m->size - m->at) {
        return refuse(m, "the pickle ends within its operand");
    }
    *out = m->code + m->at;
    m->at += bytes;
    return BIF_OK;
}

/* Little-endian operand of 1 to 8 bytes. */
static bif_status operand(machine *m, size_t bytes, bool is_signed, int64_t *out)
{
    const unsigned char *at = NULL;
    uint64_t bits = 0;
    const bif_status st = take(m, bytes, &at);
    for (size_t i = bytes; st == BIF_OK && i > 0; i--) {
        bits = bits << 8 | at[i - 1];
    }
    if (st == BIF_OK && is_signed && bytes > 0 && bytes < 8 && (at[bytes - 1] & 0x80) != 0) {
        bits |= ~(uint64_t)0 << (8 * bytes);
    }
    *out = (int64_t)bits;
    return st;
}

static bif_status push_number(machine *m, size_t bytes, bool is_signed)
{
    int64_t number = 0;
    bif_status st = operand(m, bytes, is_signed, &number);
    if (st == BIF_OK) {
        value *v = make(m, V_NUMBER);
        v->number = number;
        st = push(m, v);
    }
    return st;
}

static bif_status push_text(machine *m, size_t length_bytes)
{
    bif_status st = BIF_OK;
    int64_t length = 0;
    const unsigned char *at = NULL;
    BIF_TRY(operand(m, length_bytes, false, &length));
    BIF_TRY(take(m, (size_t)length, &at));
    value *v = make(m, V_TEXT);
    v->text = (const char *)at;
    v->length = (size_t)length;
    st = push(m, v);
done:
    return st;
}

/* GLOBAL "module\nname\n": one of those above, or the end. */
static bif_status push_global(machine *m)
{
    bif_status st = BIF_OK;
    size_t length = 0;
    const char *text = (const char *)m->code + m->at;
    for (int lines = 0; lines < 2; length++) {
        if (length == m->size - m->at || length > 200) {
            return refuse(m, "a name without an end");
        }
        lines += text[length] == '\n';
    }
    char *name = bif_malloc(length);
    memcpy(name, text, length - 1);
    name[length - 1] = '\0';
    for (size_t i = 0; i < length - 1; i++) {
        name[i] = name[i] == '\n' ? ' ' : name[i] < 32 || name[i] > 126 ? '?' : name[i];
    }
    m->at += length;
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++) {
        if (strcmp(globals[i].name, name) == 0) {
            value *v = make(m, V_GLOBAL);
            v->global = globals[i].kind;
            v->dtype = globals[i].dtype;
            BIF_TRY(push(m, v));
            goto done;
        }
    }
    char *what = bif_format("'%s' is asked for; only tensors of float32, float16, bfloat16 and whole numbers in dictionaries are read, as "
                            "anything else could run code", name);
    st = refuse(m, what);
    free(what);
done:
    free(name);
    return st;
}

static bool is_text(const value *v, const char *text)
{
    return v->kind == V_TEXT && v->length == strlen(text) && memcmp(v->text, text, v->length) == 0;
}

/* BINPERSID ('storage', type, key, location, elements): bytes of the zip. */
static bif_status push_storage(machine *m)
{
    bif_status st = BIF_OK;
    value *id = NULL;
    BIF_TRY(pop(m, &id));
    if (id->kind != V_LIST || id->count != 5 || !is_text(id->items[0], "storage") || id->items[1]->kind != V_GLOBAL ||
        id->items[1]->global != G_STORAGE_TYPE || id->items[2]->kind != V_TEXT || id->items[2]->length > 64 ||
        id->items[4]->kind != V_NUMBER || id->items[4]->number < 0) {
        return refuse(m, "not the storage of a tensor");
    }
    char key[80];
    int64_t bytes = 0;
    memcpy(key, "data/", 5);
    memcpy(key + 5, id->items[2]->text, id->items[2]->length);
    key[5 + id->items[2]->length] = '\0';
    const bif_zip_entry *entry = bif_zip_find(m->zip, key);
    if (entry == NULL) {
        return refuse(m, "the zip lacks this storage");
    }
    value *v = make(m, V_STORAGE);
    v->dtype = id->items[1]->dtype;
    v->number = id->items[4]->number;
    v->data = entry->data;
    if (!bif_mul_i64(v->number, (int64_t)bif_dtype_size(v->dtype), &bytes) || (size_t)bytes != entry->size) {
        return refuse(m, "the storage has another length than is said here");
    }
    st = push(m, v);
done:
    return st;
}

/* _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata]) */
static bif_status make_tensor(machine *m, const value *args, value **out)
{
    if (args->count < 6 || args->count > 7 || args->items[0]->kind != V_STORAGE || args->items[1]->kind != V_NUMBER ||
        args->items[2]->kind != V_LIST || args->items[3]->kind != V_LIST || args->items[2]->count != args->items[3]->count) {
        return refuse(m, "not the description of a tensor");
    }
    const value *storage = args->items[0], *size = args->items[2], *stride = args->items[3];
    if (size->count > BIF_MAX_RANK) {
        return refuse(m, "a tensor of more than 4 dimensions");
    }
    value *v = make(m, V_TENSOR);
    v->dtype = storage->dtype;
    v->rank = (int)size->count;
    int64_t elements = 1;
    bool contiguous = true;
    for (int i = v->rank - 1; i >= 0; i--) {
        if (size->items[i]->kind != V_NUMBER || stride->items[i]->kind != V_NUMBER || size->items[i]->number < 0) {
            return refuse(m, "an impossible shape");
        }
        v->dim[i] = size->items[i]->number;
        contiguous = contiguous && (v->dim[i] <= 1 || stride->items[i]->number == elements);
        if (!bif_mul_i64(elements, v->dim[i], &elements)) {
            return refuse(m, "an impossible shape");
        }
    }
    const int64_t offset = args->items[1]->number;
    if (offset < 0 || offset > storage->number || elements > storage->number - offset) {
        return refuse(m, "a tensor reaches beyond its storage");
    }
    if (!contiguous && elements > 0) {
        return refuse(m, "a tensor that is a view of another, not its own rows; save .contiguous() ones");
    }
    v->number = elements;
    v->data = storage->data + (size_t)offset * bif_dtype_size(v->dtype);
    *out = v;
    return BIF_OK;
}

static bif_status reduce(machine *m)
{
    bif_status st = BIF_OK;
    value *args = NULL, *function = NULL, *result = NULL;
    BIF_TRY(pop(m, &args));
    BIF_TRY(pop(m, &function));
    if (function->kind != V_GLOBAL || function->global == G_STORAGE_TYPE || args->kind != V_LIST) {
        st = refuse(m, "a call of something else than a tensor or a dictionary");
    } else if (function->global == G_ORDERED_DICT) {
        result = make(m, V_DICT);
        st = args->count == 0 ? BIF_OK : refuse(m, "a dictionary made of arguments");
    } else if (function->global == G_REBUILD_PARAMETER) {
        result = args->count >= 1 ? args->items[0] : function;
        st = result->kind == V_TENSOR ? BIF_OK : refuse(m, "a parameter without its tensor");
    } else {
        st = make_tensor(m, args, &result);
    }
    BIF_TRY(st);
    st = push(m, result);
done:
    return st;
}

/* Key and value pairs into the dictionary, or items into the list, below them. */
static bif_status extend(machine *m, bool to_mark, value_kind kind)
{
    bif_status st = BIF_OK;
    value *items = make(m, V_LIST), *one = NULL, *two = NULL;
    if (to_mark) {
        BIF_TRY(pop_to_mark(m, items));
    } else {
        BIF_TRY(pop(m, &two));
        if (kind == V_DICT) {
            BIF_TRY(pop(m, &one));
            append(items, one);
        }
        append(items, two);
    }
    if (m->depth == 0 || m->stack[m->depth - 1]->kind != kind || (kind == V_DICT && items->count % 2 != 0)) {
        return refuse(m, kind == V_DICT ? "no dictionary to put these into" : "no list to put these into");
    }
    for (size_t i = 0; i < items->count; i++) {
        append(m->stack[m->depth - 1], items->items[i]);
    }
done:
    return st;
}

static bif_status memo_put(machine *m, size_t bytes)
{
    bif_status st = BIF_OK;
    int64_t index = 0;
    BIF_TRY(operand(m, bytes, false, &index));
    if (m->depth == 0 || m->stack[m->depth - 1]->kind == V_MARK || (size_t)index > m->memo_count) {
        return refuse(m, "a memo out of order");
    }
    if (m->memo_count == m->memo_room) {
        m->memo_room = m->memo_room == 0 ? 256 : 2 * m->memo_room;
        m->memo = bif_realloc(m->memo, m->memo_room, sizeof(*m->memo));
    }
    m->memo_count += (size_t)index == m->memo_count;
    m->memo[index] = m->stack[m->depth - 1];
done:
    return st;
}

static bif_status memo_get(machine *m, size_t bytes)
{
    bif_status st = BIF_OK;
    int64_t index = 0;
    BIF_TRY(operand(m, bytes, false, &index));
    st = (size_t)index < m->memo_count ? push(m, m->memo[index]) : refuse(m, "a memo that was never made");
done:
    return st;
}

static bif_status push_tuple(machine *m, size_t count)
{
    bif_status st = BIF_OK;
    value *v = make(m, V_LIST);
    v->count = v->capacity = count;
    v->items = bif_calloc(count + 1, sizeof(*v->items));
    for (size_t i = count; i > 0; i--) {
        BIF_TRY(pop(m, &v->items[i - 1]));
    }
    st = push(m, v);
done:
    if (st != BIF_OK) {
        v->count = 0;
    }
    return st;
}

static bif_status push_long(machine *m)
{
    bif_status st = BIF_OK;
    int64_t bytes = 0;
    BIF_TRY(operand(m, 1, false, &bytes));
    st = bytes <= 8 ? push_number(m, (size_t)bytes, true) : refuse(m, "a number of more than 64 bits");
done:
    return st;
}

/* One opcode; *done at STOP. */
static bif_status step(machine *m, bool *done)
{
    bif_status st = BIF_OK;
    value *v = NULL;
    int64_t number = 0;
    switch (m->code[m->at++]) {
    case 0x80: /* PROTO */
        BIF_TRY(operand(m, 1, false, &number));
        return number == 2 ? BIF_OK : refuse(m, "pickle protocol 2, torch's own, is read");
    case '.': *done = true; return BIF_OK;
    case '(': return push(m, make(m, V_MARK));
    case 'N': case 0x88: case 0x89: return push(m, make(m, V_NONE)); /* None, True, False */
    case 'K': return push_number(m, 1, false);
    case 'M': return push_number(m, 2, false);
    case 'J': return push_number(m, 4, true);
    case 0x8a: return push_long(m);
    case 'X': return push_text(m, 4);
    case 'c': return push_global(m);
    case 'Q': return push_storage(m);
    case 'R': return reduce(m);
    case '}': return push(m, make(m, V_DICT));
    case ']': case ')': return push(m, make(m, V_LIST)); /* EMPTY_LIST, EMPTY_TUPLE */
    case 't':
        v = make(m, V_LIST);
        BIF_TRY(pop_to_mark(m, v));
        return push(m, v);
    case 0x85: return push_tuple(m, 1);
    case 0x86: return push_tuple(m, 2);
    case 0x87: return push_tuple(m, 3);
    case 's': return extend(m, false, V_DICT);
    case 'u': return extend(m, true, V_DICT);
    case 'a': return extend(m, false, V_LIST);
    case 'e': return extend(m, true, V_LIST);
    case 'q': return memo_put(m, 1);
    case 'r': return memo_put(m, 4);
    case 'h': return memo_get(m, 1);
    case 'j': return memo_get(m, 4);
    case 'b': /* BUILD: a state dictionary's _metadata, versions of modules */
        BIF_TRY(pop(m, &v));
        st = m->depth > 0 && m->stack[m->depth - 1]->kind == V_DICT && v->kind == V_DICT ? BIF_OK : refuse(m, "a state for what has none");
        break;
    default: return refuse(m, "not among those that torch.save writes for tensors");
    }
done:
    return st;
}

/* Puts file and place before a message about a key of the dictionary. */
static bif_status refuse_value(const machine *m, const value *key, bif_status st)
{
    return bif_fail_context(st, "%s: byte %zu (data.pkl + %zu)", m->zip->path, (size_t)(m->code - m->zip->map) + key->at, key->at);
}

/* The dictionary that is left: one entry a tensor. */
static bif_status collect(const machine *m, bif_safetensors *set, size_t file)
{
    bif_status st = BIF_OK;
    const value *root = m->depth == 1 ? m->stack[0] : NULL;
    if (root == NULL || root->kind != V_DICT || root->count / 2 > BIF_ST_TENSOR_CAP) {
        return refuse(m, "a dictionary of tensors is wanted");
    }
    set->entries = bif_realloc(set->entries, set->count + root->count / 2 + 1, sizeof(*set->entries));
    for (size_t i = 0; i < root->count; i += 2) {
        const value *key = root->items[i], *tensor = root->items[i + 1];
        if (key->kind != V_TEXT || key->length > BIF_ST_NAME_CAP || memchr(key->text, '\0', key->length) != NULL ||
            bif_utf8_check(key->text, key->length) != key->length) {
            return refuse_value(m, key, bif_fail(BIF_ERR_DATA, "a key of the dictionary is not a tensor's name"));
        }
        char *name = bif_malloc(key->length + 1);
        memcpy(name, key->text, key->length);
        name[key->length] = '\0';
        st = bif_st_check_name(name);
        if (st == BIF_OK && tensor->kind != V_TENSOR) {
            st = bif_fail(BIF_ERR_DATA, "'%s' is not a tensor; a dictionary of tensors is wanted", name);
        }
        if (st != BIF_OK) {
            free(name);
            return refuse_value(m, key, st);
        }
        bif_st_entry *entry = &set->entries[set->count++];
        *entry = (bif_st_entry){.name = name, .dtype = tensor->dtype, .rank = tensor->rank, .data = tensor->data,
                                .bytes = (size_t)tensor->number * bif_dtype_size(tensor->dtype), .file = (int)file};
        memcpy(entry->dim, tensor->dim, sizeof entry->dim);
    }
    return st;
}

static bif_status check_byte_order(const bif_zip *zip)
{
    const bif_zip_entry *order = bif_zip_find(zip, "byteorder");
    return order == NULL || (order->size == 6 && memcmp(order->data, "little", 6) == 0)
               ? BIF_OK
               : bif_fail(BIF_ERR_DATA, "%s: byte %zu: the byte order is not little", zip->path, (size_t)(order->data - zip->map));
}

bif_status bif_torch_parse(bif_safetensors *set, size_t file)
{
    bif_status st = BIF_OK;
    bif_zip zip = {0};
    machine m = {.zip = &zip};
    bool done_all = false;
    BIF_TRY(bif_zip_open(set->files[file].path, set->files[file].map, set->files[file].size, &zip));
    BIF_TRY(check_byte_order(&zip));
    const bif_zip_entry *pickle = bif_zip_find(&zip, "data.pkl");
    if (pickle == NULL || pickle->size > PICKLE_CAP) {
        st = bif_fail(BIF_ERR_DATA, "%s: no data.pkl, or one of more than %zu bytes", zip.path, PICKLE_CAP);
        goto done;
    }
    m.code = pickle->data;
    m.size = pickle->size;
    while (!done_all) {
        m.opcode = m.at;
        if (m.at == m.size) {
            st = bif_fail(BIF_ERR_DATA, "%s: byte %zu: data.pkl has no end", zip.path, (size_t)(m.code - zip.map) + m.at);
            goto done;
        }
        BIF_TRY(step(&m, &done_all));
    }
    BIF_TRY(collect(&m, set, file));
done:
    while (m.all != NULL) {
        value *next = m.all->next;
        free(m.all->items);
        free(m.all);
        m.all = next;
    }
    free(m.stack);
    free(m.memo);
    bif_zip_close(&zip);
    return st;
}
