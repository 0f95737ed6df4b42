import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Prints each event of topics once: Consume.java TOPIC... */
public class Consume {
  public static void main(String[] topics) throws Exception {
    PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    // The ids of the events that were printed.
    Path seenFile = Path.of(env("SEEN", "seen.txt"));
    Set<String> seen = new HashSet<>(Files.exists(seenFile) ? Files.readAllLines(seenFile) : List.of());

    KafkaConsumer<String, String> consumer = new KafkaConsumer<>(Map.of(
        "bootstrap.servers", env("BROKERS", "localhost:9094"),
        "group.id", env("GROUP", "fhir-cdc-example"),
        "isolation.level", "read_committed",
        "auto.offset.reset", "earliest",
        "enable.auto.commit", "false"), new StringDeserializer(), new StringDeserializer());
    consumer.subscribe(List.of(topics));

    Thread main = Thread.currentThread();
    Runtime.getRuntime().addShutdownHook(new Thread(() -> {
      consumer.wakeup();
      try {
        main.join();
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      }
    }));
    try (consumer) {
      while (true) {
        for (ConsumerRecord<String, String> event : consumer.poll(Duration.ofSeconds(1))) {
          String id = eventId(event);
          if (!seen.contains(id)) {
            out.println(event.topic() + "\t" + id + "\t" + event.value());
            seen.add(id);
            Files.writeString(seenFile, id + "\n", StandardOpenOption.CREATE, StandardOpenOption.APPEND);
          }
        }
        consumer.commitSync();
      }
    } catch (WakeupException ending) {
      // Ctrl-C
    }
  }

  /** The id is in a header, else the value's member id. */
  static String eventId(ConsumerRecord<String, String> event) throws Exception {
    for (String name : List.of("ce_id", "event_id")) {
      Header header = event.headers().lastHeader(name);
      if (header != null) {
        return new String(header.value(), StandardCharsets.UTF_8);
      }
    }
    return new ObjectMapper().readTree(event.value()).get("id").asText();
  }

  static String env(String name, String otherwise) {
    return System.getenv().getOrDefault(name, otherwise);
  }
}
