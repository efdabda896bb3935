/* The walk over the subscribers of a publication, compiled. `outlet.py` says what this promises and why it is here; `pure.py`
 * promises the same in Python, for machines that cannot compile this.
 *
 * What the walk touches of a connection is kept as plain C values, so that it runs without the interpreter: once over the
 * subscribers, to note the same bytes for each of them, and once, at the end of the turn, over those that have something to
 * write. Whatever is out of the ordinary is left to Python. The interpreter's lock is held throughout.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* As in `pure.py`. */
enum { HEAD = -1, OPEN = 0 };
enum { INDIRECT = -1 };
enum { MOST_PIECES = 64 };

typedef struct {
    PyObject_HEAD
    /* Those that have something to write: a list with a method `begin`. */
    PyObject *turn;
    /* What waits, all of it exactly `bytes`: nearly always one, which therefore needs no room besides. An array, no Python
     * list: making one may set off a garbage collection, and that may run anything in the middle of a walk. */
    PyObject *first, **rest;
    uint32_t rest_count, rest_room;
    /* Bytes of the first that have been written. */
    Py_ssize_t written;
    long long sent_messages, sent_bytes;
    int descriptor;
    signed char phase;
    char is_blocked;
} Outlet;

static PyTypeObject OutletType;

/* -- what waits ---------------------------------------------------------------------------------------------------------- */

static inline PyObject *
piece(const Outlet *self, uint32_t i)
{
    return i ? self->rest[i - 1] : self->first;
}

static void
forget(Outlet *self)
{
    if (self->first == NULL)
        return;
    for (uint32_t i = 0; i <= self->rest_count; i++)
        Py_DECREF(piece(self, i)); /* bytes: nothing runs when they go */
    PyMem_Free(self->rest);
    self->first = NULL;
    self->rest = NULL;
    self->rest_count = self->rest_room = 0;
    self->written = 0;
}

/* Put data behind what waits. The first of a turn has Python arrange for the turn's end. */
static int
put(Outlet *self, PyObject *data)
{
    if (self->turn == NULL || !PyBytes_CheckExact(data)) {
        PyErr_SetString(PyExc_TypeError, "an outlet needs a turn and takes bytes");
        return -1;
    }
    if (self->first == NULL && PyList_GET_SIZE(self->turn) == 0) {
        PyObject *begun = PyObject_CallMethod(self->turn, "begin", NULL);
        if (begun == NULL)
            return -1;
        Py_DECREF(begun);
    }
    if (self->first == NULL) {
        if (PyList_Append(self->turn, (PyObject *)self) < 0)
            return -1;
        Py_INCREF(data);
        self->first = data;
        return 0;
    }
    if (self->rest_count == self->rest_room) {
        uint32_t room = self->rest_room ? self->rest_room * 2 : 4;
        PyObject **rest = room > self->rest_room ? PyMem_Realloc(self->rest, room * sizeof(*rest)) : NULL;
        if (rest == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->rest = rest;
        self->rest_room = room;
    }
    Py_INCREF(data);
    self->rest[self->rest_count++] = data;
    return 0;
}

/* Put `wire` behind what waits, and count it as `data`; dropped if not open. */
static int
offer(Outlet *self, PyObject *data, PyObject *wire)
{
    if (self->phase != OPEN)
        return 0;
    Py_ssize_t size = PyObject_Size(data);
    if (size < 0 || put(self, wire) < 0)
        return -1;
    self->sent_messages += 1;
    /* What the frame's own head takes (RFC 6455 section 5.2) is no payload. */
    self->sent_bytes += size - (size < 128 ? 2 : size < 65540 ? 4 : 10);
    return 0;
}

/* Let go of what has been written, `sent` bytes more than before. */
static void
advance(Outlet *self, Py_ssize_t sent)
{
    uint32_t whole = 0;
    sent += self->written;
    while (whole <= self->rest_count && sent >= PyBytes_GET_SIZE(piece(self, whole)))
        sent -= PyBytes_GET_SIZE(piece(self, whole++));
    if (whole > self->rest_count) {
        forget(self);
        return;
    }
    self->written = sent;
    if (whole == 0)
        return;
    for (uint32_t i = 0; i < whole; i++)
        Py_DECREF(piece(self, i));
    self->first = self->rest[whole - 1];
    self->rest_count -= whole;
    memmove(self->rest, self->rest + whole, self->rest_count * sizeof(*self->rest));
}

/* Write what waits to the descriptor; returns whether nothing is left. */
static int
write_straight(Outlet *self)
{
    while (self->first != NULL) {
        struct iovec pieces[MOST_PIECES];
        struct msghdr message = {.msg_iov = pieces};
        size_t total = 0;
        for (uint32_t i = 0; i <= self->rest_count && i < MOST_PIECES; i++) {
            size_t done = i ? 0 : (size_t)self->written;
            pieces[i].iov_base = PyBytes_AS_STRING(piece(self, i)) + done;
            pieces[i].iov_len = (size_t)PyBytes_GET_SIZE(piece(self, i)) - done;
            total += pieces[i].iov_len;
            message.msg_iovlen++;
        }
        const int flags = MSG_DONTWAIT | MSG_NOSIGNAL;
        ssize_t sent = message.msg_iovlen == 1 ? send(self->descriptor, pieces[0].iov_base, total, flags)
                                               : sendmsg(self->descriptor, &message, flags);
        if (sent < 0)
            return 0;
        advance(self, sent);
        if ((size_t)sent < total)
            return 0;
    }
    return 1;
}

/* -- the type ------------------------------------------------------------------------------------------------------------ */

static int
outlet_init(Outlet *self, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"turn", NULL};
    PyObject *turn;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!:Outlet", names, &PyList_Type, &turn))
        return -1;
    Py_INCREF(turn);
    Py_XSETREF(self->turn, turn);
    self->phase = HEAD;
    self->descriptor = INDIRECT;
    return 0;
}

/* What waits is bytes, which lead nowhere: the collector need not know of them. */
static int
outlet_traverse(Outlet *self, visitproc visit, void *arg)
{
    Py_VISIT(self->turn);
    return 0;
}

static int
outlet_clear(Outlet *self)
{
    Py_CLEAR(self->turn);
    return 0;
}

static void
outlet_dealloc(Outlet *self)
{
    PyObject_GC_UnTrack(self);
    forget(self);
    outlet_clear(self);
    Py_TYPE(self)->tp_free(self);
}

static PyObject *
outlet_offer(Outlet *self, PyObject *data)
{
    return offer(self, data, data) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
outlet_offer_as(Outlet *self, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "offer_as() takes data, and what to write in its place");
        return NULL;
    }
    return offer(self, args[0], args[1]) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
outlet_queue(Outlet *self, PyObject *data)
{
    return put(self, data) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
outlet_take(Outlet *self, PyObject *Py_UNUSED(ignored))
{
    if (self->first != NULL && self->rest_count == 0 && self->written == 0) {
        PyObject *only = self->first;
        Py_INCREF(only);
        forget(self);
        return only;
    }
    Py_ssize_t size = -self->written;
    for (uint32_t i = 0; self->first != NULL && i <= self->rest_count; i++)
        size += PyBytes_GET_SIZE(piece(self, i));
    PyObject *joined = PyBytes_FromStringAndSize(NULL, size);
    if (joined == NULL || self->first == NULL)
        return joined;
    char *to = PyBytes_AS_STRING(joined);
    for (uint32_t i = 0; i <= self->rest_count; i++) {
        Py_ssize_t done = i ? 0 : self->written;
        size = PyBytes_GET_SIZE(piece(self, i)) - done;
        memcpy(to, PyBytes_AS_STRING(piece(self, i)) + done, (size_t)size);
        to += size;
    }
    forget(self);
    return joined;
}

static PyObject *
outlet_forget(Outlet *self, PyObject *Py_UNUSED(ignored))
{
    forget(self);
    Py_RETURN_NONE;
}

static PyObject *
outlet_write_straight(Outlet *self, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(write_straight(self));
}

static PyMethodDef outlet_methods[] = {
    {"offer", (PyCFunction)outlet_offer, METH_O, NULL},
    {"offer_as", (PyCFunction)(void (*)(void))outlet_offer_as, METH_FASTCALL, NULL},
    {"queue", (PyCFunction)outlet_queue, METH_O, NULL},
    {"take", (PyCFunction)outlet_take, METH_NOARGS, NULL},
    {"forget", (PyCFunction)outlet_forget, METH_NOARGS, NULL},
    {"write_straight", (PyCFunction)outlet_write_straight, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef outlet_members[] = {
    {"sent_messages", T_LONGLONG, offsetof(Outlet, sent_messages), 0, NULL},
    {"sent_bytes", T_LONGLONG, offsetof(Outlet, sent_bytes), 0, NULL},
    {"_pending", T_OBJECT, offsetof(Outlet, first), READONLY, NULL},
    {"_descriptor", T_INT, offsetof(Outlet, descriptor), 0, NULL},
    {"_phase", T_BYTE, offsetof(Outlet, phase), 0, NULL},
    {"_is_blocked", T_BOOL, offsetof(Outlet, is_blocked), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyTypeObject OutletType = {
    PyVarObject_HEAD_INIT(NULL, 0)
    .tp_name = "gateway.transport._outlet.Outlet",
    .tp_basicsize = sizeof(Outlet),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)outlet_init,
    .tp_traverse = (traverseproc)outlet_traverse,
    .tp_clear = (inquiry)outlet_clear,
    .tp_dealloc = (destructor)outlet_dealloc,
    .tp_methods = outlet_methods,
    .tp_members = outlet_members,
};

/* -- the walks ----------------------------------------------------------------------------------------------------------- */

/* Tell whether its type offers as an outlet does, and in no other way; -1: that could not be found out. */
static int
is_plain(PyTypeObject *type)
{
    if (!PyType_IsSubtype(type, &OutletType))
        return 0;
    PyObject *its = PyObject_GetAttrString((PyObject *)type, "offer");
    PyObject *plain = PyObject_GetAttrString((PyObject *)&OutletType, "offer");
    int is = its == NULL || plain == NULL ? -1 : its == plain;
    Py_XDECREF(its);
    Py_XDECREF(plain);
    return is;
}

/* Offer to all in the dict that are plain, and put those that are not into `others`: their Python may change the dict. */
static int
offer_plainly(PyObject *subscribers, PyObject *data, PyObject *excluded, PyObject *others)
{
    PyObject *subscriber;
    PyTypeObject *plain = NULL; /* the last type that was found to be; a reference */
    Py_ssize_t at = 0;
    int result = 0;
    while (result >= 0 && PyDict_Next(subscribers, &at, NULL, &subscriber)) {
        if (subscriber == excluded)
            continue;
        Py_INCREF(subscriber);
        PyTypeObject *type = Py_TYPE(subscriber);
        result = type == plain ? 1 : is_plain(type);
        if (result > 0) {
            if (type != plain)
                Py_XSETREF(plain, (PyTypeObject *)Py_NewRef(type));
            result = offer((Outlet *)subscriber, data, data);
        } else if (result == 0) {
            result = PyList_Append(others, subscriber);
        }
        Py_DECREF(subscriber);
    }
    Py_XDECREF(plain);
    return result;
}

static PyObject *
offer_all(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *subscribers, *data, *excluded;
    if (!PyArg_ParseTuple(args, "OOO:offer_all", &subscribers, &data, &excluded))
        return NULL;
    int is_dict = PyDict_CheckExact(subscribers);
    PyObject *others = is_dict ? PyList_New(0) : PyMapping_Values(subscribers);
    int result = others == NULL ? -1 : is_dict ? offer_plainly(subscribers, data, excluded, others) : 0;
    for (Py_ssize_t i = 0; result >= 0 && i < PyList_GET_SIZE(others); i++) {
        PyObject *other = PyList_GET_ITEM(others, i);
        if (other == excluded)
            continue;
        Py_INCREF(other);
        PyObject *its = PyObject_GetAttrString(other, "offer");
        PyObject *done = its == NULL ? NULL : PyObject_CallOneArg(its, data);
        result = done == NULL ? -1 : 0;
        Py_XDECREF(done);
        Py_XDECREF(its);
        Py_DECREF(other);
    }
    Py_XDECREF(others);
    return result < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
write_some(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *turn;
    Py_ssize_t start, most;
    if (!PyArg_ParseTuple(args, "O!nn:write_some", &PyList_Type, &turn, &start, &most))
        return NULL;
    PyObject *left = PyList_New(0);
    for (Py_ssize_t i = start < 0 ? 0 : start; left != NULL && i < PyList_GET_SIZE(turn) && i - start < most; i++) {
        PyObject *item = PyList_GET_ITEM(turn, i);
        Outlet *outlet = (Outlet *)item;
        if (!PyObject_TypeCheck(item, &OutletType)) {
            PyErr_SetString(PyExc_TypeError, "a turn holds outlets");
            Py_CLEAR(left);
        } else if (outlet->first == NULL) {
            continue; /* it has been written, or dropped, meanwhile */
        } else if (outlet->phase != OPEN || outlet->descriptor < 0 || !write_straight(outlet)) {
            if (PyList_Append(left, item) < 0)
                Py_CLEAR(left);
        }
    }
    return left;
}

static PyMethodDef functions[] = {
    {"offer_all", offer_all, METH_VARARGS, NULL},
    {"write_some", write_some, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_outlet",
    .m_doc = "See gateway/transport/outlet.py.",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC
PyInit__outlet(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && PyModule_AddType(module, &OutletType) < 0)
        Py_CLEAR(module);
    return module;
}
