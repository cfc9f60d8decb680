import com.typesafe.config.Config;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.TimeUnit;
import org.apache.pekko.actor.Cancellable;
import org.apache.pekko.actor.LightArrayRevolverScheduler;
import org.apache.pekko.event.LoggingAdapter;
import scala.concurrent.ExecutionContext;
import scala.concurrent.duration.Duration;
import scala.concurrent.duration.FiniteDuration;

/**
 * Pekko's scheduler, but what is due at once runs at its next tick. While a FIFO group is blocked and somebody waits for messages,
 * ElasticMQ looks for them after "the time until the next one is due", which is no time at all: without this it keeps a processor busy.
 */
public final class PatientScheduler extends LightArrayRevolverScheduler {
    public PatientScheduler(Config config, LoggingAdapter log, ThreadFactory threads) {
        super(config, log, threads);
    }

    @Override
    public Cancellable scheduleOnce(FiniteDuration delay, Runnable task, ExecutionContext executor) {
        FiniteDuration later = delay.toNanos() > 0 ? delay : Duration.create(1, TimeUnit.MILLISECONDS);
        return super.scheduleOnce(later, task, executor);
    }
}
