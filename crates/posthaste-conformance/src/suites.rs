//! The lists of laws: one macro for each seam, which makes a test of every law in its module.

/// Makes one test of each law in a module that is named after the seam.
#[doc(hidden)]
#[macro_export]
macro_rules! laws {
    ($seam:ident, $make:ident(), [$($law:ident),* $(,)?]) => {
        mod $seam {
            $(
                #[test]
                fn $law() {
                    $crate::run(stringify!($law), async {
                        $crate::$seam::$law(super::$make().await).await;
                    });
                }
            )*
        }
    };
    ($seam:ident, $make:ident, [$($law:ident),* $(,)?]) => {
        mod $seam {
            $(
                #[test]
                fn $law() {
                    $crate::run(stringify!($law), $crate::$seam::$law(super::$make));
                }
            )*
        }
    };
}

/// Every law of a database that is migrated; `$make` is an async function that gives a
/// [`DatabaseCase`](crate::DatabaseCase).
#[macro_export]
macro_rules! database_suite {
    ($make:ident) => {
        $crate::writer_suite!($make);
        $crate::outbox_suite!($make);
        $crate::settlement_suite!($make);
        $crate::routes_suite!($make);
        $crate::lanes_suite!($make);
        $crate::leases_suite!($make);
        $crate::inbox_suite!($make);
        $crate::dead_letters_suite!($make);
        $crate::monitor_suite!($make);
    };
}

/// Every law of a broker; `$make` is an async function that takes the length of locks and gives
/// a [`BrokerCase`](crate::BrokerCase).
#[macro_export]
macro_rules! broker_suite {
    ($make:ident) => {
        $crate::publisher_suite!($make);
        $crate::subscriber_suite!($make);
    };
}
