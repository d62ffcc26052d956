//! How the types of a frame become CBOR: a struct is an array of its fields in order, an enum an
//! array of a number and the fields of its variant. The two macros write that out, so that a type
//! and its bytes are declared in one place.

use synod_core::cbor::{Error, Reader, Writer};

/// A type with one CBOR form.
pub(super) trait Wire: Sized {
    fn put(&self, w: &mut Writer);
    fn take(r: &mut Reader<'_>) -> Result<Self, Error>;
}

macro_rules! plain {
    ($($type:ty: $put:expr, $take:expr;)*) => { $(
        impl Wire for $type {
            fn put(&self, w: &mut Writer) {
                let put: fn(&mut Writer, &Self) = $put;
                put(w, self);
            }
            fn take(r: &mut Reader<'_>) -> Result<Self, Error> {
                let take: fn(&mut Reader<'_>) -> Result<Self, Error> = $take;
                take(r)
            }
        }
    )* };
}

plain! {
    u64: |w, n| { w.uint(*n); }, |r| r.uint();
    u32: |w, n| { w.uint(u64::from(*n)); }, |r| r.uint32();
    u16: |w, n| { w.uint(u64::from(*n)); },
        |r| u16::try_from(r.uint()?).map_err(|_| r.invalid("does not fit 16 bits"));
    i64: |w, n| { w.int(*n); }, |r| r.int();
    bool: |w, b| { w.bool(*b); }, |r| r.bool();
    String: |w, s| { w.text(s); }, |r| r.text().map(str::to_owned);
    Vec<u8>: |w, b| { w.bytes(b); }, |r| r.bytes().map(<[u8]>::to_vec);
}

impl<T: Wire> Wire for Option<T> {
    fn put(&self, w: &mut Writer) {
        match self {
            Some(value) => value.put(w),
            None => {
                w.null();
            }
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, Error> {
        if r.null() { Ok(None) } else { T::take(r).map(Some) }
    }
}

impl<T: Wire> Wire for Box<T> {
    fn put(&self, w: &mut Writer) {
        (**self).put(w);
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, Error> {
        T::take(r).map(Self::new)
    }
}

/// A list of items, each of its own form. (`Vec<u8>` is a byte string, hence a trait of its own.)
pub(super) trait Element: Wire {}

impl<T: Element> Wire for Vec<T> {
    fn put(&self, w: &mut Writer) {
        w.array(self.len());
        for item in self {
            item.put(w);
        }
    }

    fn take(r: &mut Reader<'_>) -> Result<Self, Error> {
        // The reader has checked the length against the bytes that are left.
        (0..r.array()?).map(|_| T::take(r)).collect()
    }
}

impl Element for u32 {}
impl Element for String {}
impl Element for Vec<u8> {}

macro_rules! wire_struct {
    ($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)* }

        impl $crate::frame::wire::Wire for $name {
            fn put(&self, w: &mut synod_core::cbor::Writer) {
                w.array([$(stringify!($field)),*].len());
                $($crate::frame::wire::Wire::put(&self.$field, w);)*
            }
            fn take(
                r: &mut synod_core::cbor::Reader<'_>,
            ) -> Result<Self, synod_core::cbor::Error> {
                r.array_of([$(stringify!($field)),*].len())?;
                Ok(Self { $($field: $crate::frame::wire::Wire::take(r)?,)* })
            }
        }

        impl $crate::frame::wire::Element for $name {}
    };
}

macro_rules! wire_enum {
    ($(#[$meta:meta])* pub enum $name:ident {
        $($(#[$variant_meta:meta])* $code:literal => $variant:ident
            $({ $($(#[$field_meta:meta])* $field:ident: $type:ty,)* })?,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant $({ $($(#[$field_meta])* $field: $type,)* })?,)*
        }

        impl $crate::frame::wire::Wire for $name {
            fn put(&self, w: &mut synod_core::cbor::Writer) {
                match self {
                    $(Self::$variant $({ $($field,)* })? => {
                        w.array(1 $(+ [$(stringify!($field)),*].len())?).uint($code);
                        $($($crate::frame::wire::Wire::put($field, w);)*)?
                    })*
                }
            }
            fn take(
                r: &mut synod_core::cbor::Reader<'_>,
            ) -> Result<Self, synod_core::cbor::Error> {
                let start = r.clone();
                let len = r.array()?;
                match r.uint()? {
                    $($code if len == 1 $(+ [$(stringify!($field)),*].len())? => {
                        Ok(Self::$variant $({ $($field: $crate::frame::wire::Wire::take(r)?,)* })?)
                    })*
                    _ => Err(start.invalid(concat!("not a ", stringify!($name)))),
                }
            }
        }

        impl $crate::frame::wire::Element for $name {}
    };
}

pub(super) use {wire_enum, wire_struct};
