//! Conversions of bytes that are made up for tests.

use super::*;

fn swap() -> Conversion {
    // { int a; int b; } becomes { int b; long a; int c; }
    Conversion {
        manner: Manner::Own,
        name: "struct s".to_owned(),
        old_size: 8,
        new_size: 24,
        steps: vec![
            Step::Instance {
                record: 0,
                from: 0,
                to: 0,
            },
            Step::Integer {
                from: 0,
                from_bits: 32,
                to: 64,
                to_bits: 64,
                signed: true,
            },
            Step::Copy {
                from: 4,
                to: 0,
                size: 4,
            },
            Step::Added { to: 128, bits: 32 },
        ],
        tail: None,
    }
}

#[test]
fn members_move_widen_and_appear_in_every_element() {
    let old: Vec<u8> = [-2_i32, 7, 3, 9]
        .iter()
        .flat_map(|n| n.to_le_bytes())
        .collect();
    let mut new = vec![0; 48];
    new[16] = 5;
    swap().convert(2, &old, &mut new);
    let long = |at: usize| i64::from_le_bytes(new[at..at + 8].try_into().unwrap());
    let int = |at: usize| i32::from_le_bytes(new[at..at + 4].try_into().unwrap());
    assert_eq!((int(0), long(8), int(16)), (7, -2, 5));
    assert_eq!((int(24), long(32), int(40)), (9, 3, 0));
}

#[test]
fn pointers_into_an_instance_follow_their_member() {
    let swap = swap();
    assert_eq!(swap.moved(2, 16, 0), Some(0));
    assert_eq!(swap.moved(2, 16, 4), Some(0));
    assert_eq!(swap.moved(2, 16, 8), Some(24));
    assert_eq!(swap.moved(2, 16, 12), Some(24));
    assert_eq!(swap.moved(2, 16, 6), Some(2));
}

#[test]
fn bit_fields_keep_their_values() {
    let bits = Conversion {
        old_size: 1,
        new_size: 4,
        steps: vec![
            Step::Integer {
                from: 0,
                from_bits: 3,
                to: 9,
                to_bits: 5,
                signed: true,
            },
            Step::Integer {
                from: 3,
                from_bits: 2,
                to: 0,
                to_bits: 2,
                signed: false,
            },
        ],
        ..Conversion::default()
    };
    let mut new = [0xff; 4];
    bits.convert(1, &[0b0001_0101], &mut new);
    // -3 in five bits is 11101; 2 in two bits is 10.
    assert_eq!(new, [0b1111_1110, 0b1111_1011, 0xff, 0xff]);
}

#[test]
fn a_common_layout_only_gains_members_and_numbers_of_another_type() {
    // { int a; int b; } and, in one layout, { int a; <b>; int c; long b; }
    let common = Conversion {
        manner: Manner::Common,
        old_size: 24,
        new_size: 24,
        steps: vec![
            Step::Copy {
                from: 0,
                to: 0,
                size: 4,
            },
            Step::Added { to: 64, bits: 32 },
            Step::Integer {
                from: 32,
                from_bits: 32,
                to: 128,
                to_bits: 64,
                signed: true,
            },
        ],
        ..Conversion::default()
    };
    let mut live = [1; 24];
    live[4..8].copy_from_slice(&(-2_i32).to_le_bytes());
    let before = live;
    let pristine: Vec<u8> = (100..124).collect();
    common.initialise(1, &mut live, &pristine);
    assert_eq!(live[..8], before[..8]);
    assert_eq!(live[8..12], pristine[8..12]);
    assert_eq!(live[12..16], before[12..16]);
    assert_eq!(live[16..], (-2_i64).to_le_bytes());
}

#[test]
fn what_was_never_written_is_renewed_but_for_gaps() {
    // { int a; int gone; int b; } and { int a; <gap>; long b; }: the last is retyped.
    let conversion = Conversion {
        old_size: 24,
        new_size: 24,
        steps: vec![
            Step::Copy {
                from: 0,
                to: 0,
                size: 4,
            },
            Step::Added { to: 128, bits: 64 },
        ],
        manner: Manner::Common,
        ..Conversion::default()
    };
    let mut live = [1; 48];
    let pristine: Vec<u8> = (100..148).collect();
    conversion.renew(2, &mut live, &pristine);
    for start in [0, 24] {
        assert_eq!(live[start..start + 4], pristine[start..start + 4]);
        assert_eq!(live[start + 4..start + 16], [1; 12]);
        assert_eq!(
            live[start + 16..start + 24],
            pristine[start + 16..start + 24]
        );
    }
}

#[test]
fn what_a_flexible_array_holds_goes_along() {
    let flexible = Conversion {
        old_size: 4,
        new_size: 8,
        steps: vec![Step::Copy {
            from: 0,
            to: 0,
            size: 4,
        }],
        tail: Some(Elements {
            count: 0,
            from: 4,
            from_stride: 1,
            to: 8,
            to_stride: 1,
            steps: vec![Step::Copy {
                from: 0,
                to: 0,
                size: 1,
            }],
        }),
        ..Conversion::default()
    };
    let old = *b"abcdkey";
    let length = flexible.new_length(1, old.len() as u64);
    assert_eq!(length, 11);
    let mut new = vec![0; 11];
    flexible.convert(1, &old, &mut new);
    assert_eq!(new, *b"abcd\0\0\0\0key");
}
