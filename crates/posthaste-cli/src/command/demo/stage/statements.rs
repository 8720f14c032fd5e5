//! The statements of the demo, which every database understands as they are.

/// Numbers that the demo looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Count {
    /// Messages in the outbox.
    Stated,
    /// Messages that a consumer has booked.
    Booked,
    /// Rows that a consumer has written.
    Rows,
    /// What all of these say together.
    Sum,
    /// What the consumer's balance says.
    Balance,
    /// Messages that a consumer's inbox remembers.
    Remembered,
    /// Dead letters of a consumer.
    Dead,
}

impl Count {
    /// Its query. The parameter is the consumer, also where it makes no difference.
    pub(super) const fn query(self) -> &'static str {
        match self {
            Self::Stated => "select count(*) from posthaste.outbox where $1 <> ''",
            Self::Booked => "select count(distinct message) from shop.ledger where consumer = $1",
            Self::Rows => "select count(*) from shop.ledger where consumer = $1",
            Self::Sum => {
                "select cast(coalesce(sum(amount), 0) as bigint) from shop.ledger
                 where consumer = $1"
            }
            Self::Balance => "select amount from shop.balance where consumer = $1",
            Self::Remembered => "select count(*) from posthaste.inbox where consumer = $1",
            Self::Dead => {
                "select count(*) from posthaste.dead_letter
                 where side = 'consumer' and name = $1"
            }
        }
    }
}

pub(super) const LOOK: &str = "select count(*) from shop.orders where customer = $1";

/// `version` counts the messages of a customer, in the order in which they are committed.
pub(super) const RAISE: &str = "insert into shop.customer as c (name, version) values ($1, $2)
     on conflict (name) do update set version = c.version + $2 returning version";

pub(super) const PLACE: &str =
    "insert into shop.orders (id, customer, amount, messages) values ($1, $2, $3, $4)";

pub(super) const BOOK: &str =
    "insert into shop.ledger (consumer, message, digest, amount) values ($1, $2, $3, $4)";

pub(super) const ADD: &str = "update shop.balance set amount = amount + $2 where consumer = $1";

pub(super) const OPEN_BALANCE: &str = "insert into shop.balance (consumer, amount) values ($1, 0)";

pub(super) const ORDERS: &str = "select id, messages from shop.orders";

pub(super) const LEDGER: &str =
    "select message, digest from shop.ledger where consumer = $1 order by number";

/// The same functions for a driver of its own: its types are what differs, and bounds that say so
/// for all drivers would be longer than the functions.
macro_rules! stage {
    ($handle:ty) => {
        impl $crate::command::demo::stage::Stage for $handle {
            async fn furnish_shop(&self) -> Result<(), Failure> {
                let tables = sqlx::AssertSqlSafe(self.text(<Self as Dialect>::SHOP));
                let made = sqlx::raw_sql(tables).execute(self.pool()).await;
                made.map(drop).map_err(|error| failed(&error))
            }

            async fn furnish_ledger(&self, consumer: &str) -> Result<(), Failure> {
                let tables = sqlx::AssertSqlSafe(self.text(<Self as Dialect>::LEDGER));
                let made = sqlx::raw_sql(tables).execute(self.pool()).await;
                made.map_err(|error| failed(&error))?;
                let opened = sqlx::query(sqlx::AssertSqlSafe(self.text(statements::OPEN_BALANCE)))
                    .bind(consumer)
                    .execute(self.pool())
                    .await;
                opened.map(drop).map_err(|error| failed(&error))
            }

            async fn look(
                &self,
                connection: &mut Self::Connection,
                customer: &str,
            ) -> Result<(), Trouble> {
                let looked = sqlx::query(sqlx::AssertSqlSafe(self.text(statements::LOOK)))
                    .bind(customer)
                    .fetch_one(connection)
                    .await;
                looked.map(drop).map_err(|error| Trouble::of::<Self>(&error))
            }

            async fn raise(
                &self,
                connection: &mut Self::Connection,
                customer: &str,
                by: i64,
            ) -> Result<i64, Trouble> {
                sqlx::query_scalar(sqlx::AssertSqlSafe(self.text(statements::RAISE)))
                    .bind(customer)
                    .bind(by)
                    .fetch_one(connection)
                    .await
                    .map_err(|error| Trouble::of::<Self>(&error))
            }

            async fn place(
                &self,
                connection: &mut Self::Connection,
                order: &Order<'_>,
            ) -> Result<(), Trouble> {
                let placed = sqlx::query(sqlx::AssertSqlSafe(self.text(statements::PLACE)))
                    .bind(order.id)
                    .bind(order.customer)
                    .bind(order.amount)
                    .bind(order.messages)
                    .execute(connection)
                    .await;
                placed.map(drop).map_err(|error| Trouble::of::<Self>(&error))
            }

            async fn commit_plainly(transaction: Self::Transaction) -> Result<(), Failure> {
                transaction.commit().await.map_err(|error| failed(&error))
            }

            async fn roll_back(transaction: Self::Transaction) -> Result<(), Failure> {
                transaction.rollback().await.map_err(|error| failed(&error))
            }

            async fn book(
                &self,
                connection: &mut Self::Connection,
                entry: &Entry<'_>,
            ) -> Result<(), HandlerError> {
                sqlx::query(sqlx::AssertSqlSafe(self.text(statements::BOOK)))
                    .bind(entry.consumer)
                    .bind(&entry.message)
                    .bind(&entry.digest)
                    .bind(entry.amount)
                    .execute(&mut *connection)
                    .await?;
                sqlx::query(sqlx::AssertSqlSafe(self.text(statements::ADD)))
                    .bind(entry.consumer)
                    .bind(entry.amount)
                    .execute(&mut *connection)
                    .await?;
                Ok(())
            }

            async fn orders(&self) -> Result<Vec<(String, i64)>, Failure> {
                sqlx::query_as(sqlx::AssertSqlSafe(self.text(statements::ORDERS)))
                    .fetch_all(self.pool())
                    .await
                    .map_err(|error| unreadable(&error))
            }

            async fn outbox(&self) -> Result<Vec<Row>, Failure> {
                sqlx::query_as(sqlx::AssertSqlSafe(self.text(<Self as Dialect>::OUTBOX)))
                    .fetch_all(self.pool())
                    .await
                    .map_err(|error| unreadable(&error))
            }

            async fn ledger(&self, consumer: &str) -> Result<Vec<(String, String)>, Failure> {
                sqlx::query_as(sqlx::AssertSqlSafe(self.text(statements::LEDGER)))
                    .bind(consumer)
                    .fetch_all(self.pool())
                    .await
                    .map_err(|error| unreadable(&error))
            }

            async fn count(&self, count: Count, consumer: &str) -> Result<i64, Failure> {
                sqlx::query_scalar(sqlx::AssertSqlSafe(self.text(count.query())))
                    .bind(consumer)
                    .fetch_one(self.pool())
                    .await
                    .map_err(|error| unreadable(&error))
            }
        }
    };
}
pub(super) use stage;
