// States messages in the same transactions as the orders they follow from, on PostgreSQL.
//
//     posthaste migrate --database "$POSTHASTE_DATABASE"
//     export POSTHASTE_DATABASE=postgres://shop@localhost/shop
//     java -cp postgresql.jar Orders.java
//
// Needs Java 17 and the JDBC driver (Debian: libpostgresql-jdbc-java, then
// /usr/share/java/postgresql.jar). The role needs the rights of a consumer (see
// docs/postgres.md) and the right to create the two tables of the shop. It prints the id of each
// message that it has published through the function, and what became of the rest.

import java.net.URI;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.util.Properties;
import java.util.UUID;

public final class Orders {
    private static final String SHOP = """
            create table if not exists orders (
                id bigint generated always as identity primary key,
                customer text not null, folder text not null, note text not null);
            create table if not exists shipments (order_id bigint not null);
            """;

    private static final String FOLDER = "C:\\new\\table";
    private static final String WISH = "\"gr\u00fc\u00dfe\"";
    private static final String NOTE = "said " + WISH;

    private final Connection db;

    private Orders(Connection db) {
        this.db = db;
    }

    public static void main(String[] arguments) throws Exception {
        String url = System.getenv("POSTHASTE_DATABASE");
        if (url == null) {
            System.err.println("set POSTHASTE_DATABASE to postgres://USER@HOST/DATABASE");
            System.exit(2);
        }
        try (Connection db = connect(URI.create(url))) {
            try (var statement = db.createStatement()) {
                statement.execute(SHOP);
            }
            // From here on every transaction ends with a commit or a rollback of ours.
            db.setAutoCommit(false);
            new Orders(db).run();
        }
    }

    /** The driver wants its own form of the address. */
    private static Connection connect(URI url) throws SQLException {
        var properties = new Properties();
        String[] user = url.getUserInfo() == null ? new String[0] : url.getUserInfo().split(":", 2);
        if (user.length > 0) {
            properties.setProperty("user", user[0]);
        }
        if (user.length > 1) {
            properties.setProperty("password", user[1]);
        }
        int port = url.getPort() < 0 ? 5432 : url.getPort();
        String options = url.getRawQuery() == null ? "" : "?" + url.getRawQuery();
        String address = "jdbc:postgresql://" + url.getHost() + ":" + port + url.getRawPath();
        return DriverManager.getConnection(address + options, properties);
    }

    private void run() throws SQLException {
        long number = insertOrder("c1");
        UUID placed = placeWithReminder(number, "c1");
        placePlainly("c2");
        pay(number, "c1");
        refuse("c3");
        ship(placed, number);
        ship(placed, number);
    }

    /** The business row; it begins the transaction that its message is stated in. */
    private long insertOrder(String customer) throws SQLException {
        String sql = "insert into orders (customer, folder, note) values (?, ?, ?) returning id";
        try (PreparedStatement statement = db.prepareStatement(sql)) {
            statement.setString(1, customer);
            statement.setString(2, FOLDER);
            statement.setString(3, NOTE);
            try (ResultSet rows = statement.executeQuery()) {
                rows.next();
                return rows.getLong(1);
            }
        }
    }

    /** The message of an order, and a reminder that is sent in an hour: all of it, or nothing. */
    private UUID placeWithReminder(long number, String customer) throws SQLException {
        // Text arrives byte for byte as it is here, backslashes and all.
        UUID placed = publish(
                "'orders', 'order.placed', ?::text, key => ?, headers => ?::jsonb, "
                        + "content_type => 'application/json'",
                printed(number, customer),
                customer,
                "{\"folder\": " + quoted("C:\\temp") + ", \"said\": " + quoted(WISH) + "}");
        UUID due = publish(
                "'reminders', 'payment.due', ?::text, due => now() + interval '1 hour'",
                "{\"order\":" + number + "}");
        db.commit();
        System.out.println("order.placed " + placed + "\npayment.due " + due);
        return placed;
    }

    /** The same without the function: a plain insert is enough. */
    private void placePlainly(String customer) throws SQLException {
        long number = insertOrder(customer);
        String sql = "insert into posthaste.outbox (topic, kind, key, payload) values (?, ?, ?, ?)";
        try (PreparedStatement statement = db.prepareStatement(sql)) {
            statement.setString(1, "orders");
            statement.setString(2, "order.placed");
            statement.setString(3, customer);
            statement.setString(4, printed(number, customer));
            statement.executeUpdate();
        }
        db.commit();
    }

    /** Bytes, and JSON that PostgreSQL may print as it likes to. */
    private void pay(long number, String customer) throws SQLException {
        UUID label = publish(
                "'labels', 'label.printed', ?::bytea, key => ?, "
                        + "content_type => 'application/octet-stream'",
                new byte[] {0x00, (byte) 0xff, 0x5c, 0x22, 0x0a},
                customer);
        UUID paid = publish(
                "'orders', 'order.paid', ?::jsonb, key => ?",
                "{\"order\": " + number + ", \"folder\": " + quoted(FOLDER) + "}",
                customer);
        db.commit();
        System.out.println("label.printed " + label + "\norder.paid " + paid);
    }

    /** An order that fails after its message was stated: neither of them exists. */
    private void refuse(String customer) throws SQLException {
        long number = insertOrder(customer);
        publish("'orders', 'order.placed', ?::text, key => ?", printed(number, customer), customer);
        db.rollback();
        System.out.println("rolled back: " + customer + " has no credit");
    }

    /** Handles a message once, however often it comes; tell the broker after this has returned. */
    private void ship(UUID message, long number) throws SQLException {
        boolean first;
        String inbox = "insert into posthaste.inbox (consumer, id) values ('shipping', ?) "
                + "on conflict do nothing";
        try (PreparedStatement statement = db.prepareStatement(inbox)) {
            statement.setObject(1, message);
            first = statement.executeUpdate() == 1;
        }
        if (first) {
            String effect = "insert into shipments (order_id) values (?)";
            try (PreparedStatement statement = db.prepareStatement(effect)) {
                statement.setLong(1, number);
                statement.executeUpdate();
            }
        }
        db.commit();
        System.out.println(first ? "shipped" : "shipped before");
    }

    /** Publishes in the open transaction; `call` is what stands between the brackets. */
    private UUID publish(String call, Object... values) throws SQLException {
        String sql = "select posthaste.publish(" + call + ")";
        try (PreparedStatement statement = db.prepareStatement(sql)) {
            for (int at = 0; at < values.length; at++) {
                statement.setObject(at + 1, values[at]);
            }
            try (ResultSet rows = statement.executeQuery()) {
                rows.next();
                return rows.getObject(1, UUID.class);
            }
        }
    }

    /** An order as JSON, as a JSON library would print it. */
    private static String printed(long number, String customer) {
        return "{\"order\":" + number + ",\"customer\":" + quoted(customer) + ",\"folder\":"
                + quoted(FOLDER) + ",\"note\":" + quoted(NOTE) + "}";
    }

    private static String quoted(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }
}
