"""How often methods are right: what is asked, who answers, and every answer kept."""
