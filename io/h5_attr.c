/* Element types that are taken, and attributes. */
#include <inttypes.h>
#include <string.h>

#include "io/h5.h"
#include "io/h5_private.h"

bool h5__standard(hid_t type, bool floats)
{
    const hid_t ints[] = { H5T_STD_I8LE,  H5T_STD_I16LE, H5T_STD_I32LE, H5T_STD_I64LE, H5T_STD_U8LE,
                           H5T_STD_U16LE, H5T_STD_U32LE, H5T_STD_U64LE, H5T_STD_I16BE, H5T_STD_I32BE,
                           H5T_STD_I64BE, H5T_STD_U16BE, H5T_STD_U32BE, H5T_STD_U64BE };
    const hid_t reals[] = { H5T_IEEE_F32LE, H5T_IEEE_F64LE, H5T_IEEE_F32BE, H5T_IEEE_F64BE };
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++)
        if (H5Tequal(type, ints[i]) > 0)
            return true;
    for (size_t i = 0; floats && i < sizeof reals / sizeof reals[0]; i++)
        if (H5Tequal(type, reals[i]) > 0)
            return true;
    return false;
}

bool h5__fixed_string(hid_t type, uint64_t most, size_t *width)
{
    if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0)
        return false;
    H5T_str_t pad = H5Tget_strpad(type);
    *width = H5Tget_size(type);
    return *width > 0 && *width <= most && (pad == H5T_STR_NULLPAD || pad == H5T_STR_NULLTERM);
}

/* Length of a UTF-8 character that starts at p, with `left` bytes there; 0: not valid (RFC 3629). */
static size_t utf8_length(const unsigned char *p, size_t left)
{
    static const uint32_t least[5] = { 0, 0, 0x80, 0x800, 0x10000 };
    size_t n = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 : p[0] >> 3 == 30 ? 4 : 0;
    if (n < 2 || n > left)
        return n == 1 ? 1 : 0;
    uint32_t c = p[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if (p[i] >> 6 != 2)
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    return c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000) ? 0 : n;
}

char *h5__take_string(struct arena *a, const char *s, size_t width, bool line)
{
    size_t n = strnlen(s, width);
    for (size_t i = n; i < width; i++)
        if (s[i])
            return NULL;
    for (size_t i = 0; i < n;) {
        const unsigned char *p = (const unsigned char *)s + i;
        size_t step = utf8_length(p, n - i);
        if (!step || (line && (*p < 0x20 || *p == 0x7f)))
            return NULL;
        i += step;
    }
    char *out = arena_alloc(a, n + 1);
    memcpy(out, s, n);
    return out;
}

/* ---- attributes ---- */

bool h5_has_attr(const struct h5_at *at, const char *name)
{
    return H5Aexists(at->id, name) > 0;
}

/* Opens a scalar attribute (or an array of one); a and type must be closed when ST_OK. */
static enum status open_attr(const struct h5_at *at, const char *name, hid_t *a, hid_t *type, struct err *e)
{
    if (!h5_has_attr(at, name))
        return err_set(e, ST_INPUT, at->where, "has no attribute \"%s\"", name);
    *a = H5Aopen(at->id, name, H5P_DEFAULT);
    if (*a < 0)
        return h5_fail(e, ST_INPUT, at, "attribute %s cannot be opened", name);
    *type = H5Aget_type(*a);
    hid_t space = H5Aget_space(*a);
    bool one = space >= 0 && H5Sget_simple_extent_type(space) != H5S_NULL && H5Sget_simple_extent_npoints(space) == 1;
    if (space >= 0)
        H5Sclose(space);
    if (*type >= 0 && one)
        return ST_OK;
    if (*type >= 0)
        H5Tclose(*type);
    H5Aclose(*a);
    return err_set(e, ST_INPUT, at->where, "attribute %s is not a single value", name);
}

enum status h5_get_attr_text(const struct h5_at *at, const char *name, struct arena *ar, const char **out,
                             struct err *e)
{
    hid_t a = H5I_INVALID_HID, type = H5I_INVALID_HID;
    size_t width;
    TRY(open_attr(at, name, &a, &type, e));
    enum status st = ST_OK;
    char *flat = NULL;
    if (!h5__fixed_string(type, 60000, &width)) {
        st = err_set(e, ST_INPUT, at->where,
                     "attribute %s is not a fixed-length string (h5py: write numpy.bytes_(\"...\"))", name);
    } else {
        flat = mem_alloc(width);
        if (H5Aget_storage_size(a) != width || H5Aread(a, type, flat) < 0)
            st = h5_fail(e, ST_INPUT, at, "attribute %s cannot be read", name);
        else if (!(*out = h5__take_string(ar, flat, width, true)))
            st = err_set(e, ST_INPUT, at->where, "attribute %s is not printable UTF-8 text", name);
    }
    mem_free(flat);
    H5Tclose(type);
    H5Aclose(a);
    return st;
}

static enum status get_attr(const struct h5_at *at, const char *name, bool floats, hid_t memory, void *out,
                            struct err *e)
{
    hid_t a = H5I_INVALID_HID, type = H5I_INVALID_HID;
    TRY(open_attr(at, name, &a, &type, e));
    enum status st = ST_OK;
    if (!h5__standard(type, floats) || H5Aget_storage_size(a) != H5Tget_size(type))
        st = err_set(e, ST_INPUT, at->where, "attribute %s has another type, expected %s", name,
                     floats ? "a number" : "an integer");
    else if (H5Aread(a, memory, out) < 0)
        st = h5_fail(e, ST_INPUT, at, "attribute %s cannot be read", name);
    H5Tclose(type);
    H5Aclose(a);
    return st;
}

enum status h5_get_attr_u64(const struct h5_at *at, const char *name, uint64_t hi, uint64_t *out, struct err *e)
{
    TRY(get_attr(at, name, false, H5T_NATIVE_UINT64, out, e)); /* negative values become 0 on conversion */
    if (*out > hi)
        return err_set(e, ST_INPUT, at->where, "attribute %s: found %" PRIu64 ", expected at most %" PRIu64, name, *out,
                       hi);
    return ST_OK;
}

enum status h5_get_attr_f64(const struct h5_at *at, const char *name, double *out, struct err *e)
{
    return get_attr(at, name, true, H5T_NATIVE_DOUBLE, out, e);
}
